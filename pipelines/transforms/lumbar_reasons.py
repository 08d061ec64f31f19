"""Why `lumbar_bmd_ct` declines: the coded reason and the reader's sentence of each case."""

from __future__ import annotations

from dicom_node.model import own_codes
from dicom_node.model.targets import Rejection


def contrast_given(why: str) -> Rejection:
    return Rejection(
        own_codes.CONTRAST_GIVEN,
        f"contrast was given ({why}); it raises the HU of bone, so no BMD is derived",
    )


def too_thick(thickness_mm: float, limit_mm: float) -> Rejection:
    return Rejection(
        own_codes.THICK_SLICES,
        f"the slices are {thickness_mm:.1f} mm apart or thick; at most {limit_mm:g} mm are read",
    )


def too_few(slices: int, coverage_mm: float) -> Rejection:
    return Rejection(
        own_codes.TOO_FEW_SLICES,
        f"{slices} slices that cover {coverage_mm:.0f} mm are too few to find and count vertebrae",
    )


def not_axial() -> Rejection:
    return Rejection(own_codes.NOT_AXIAL, "the slices are not axial")


def unfit_kernel(kernel: str) -> Rejection:
    return Rejection(
        own_codes.UNFIT_KERNEL,
        f"the reconstruction kernel {kernel} is a sharp one; send a soft-tissue reconstruction",
    )


def unfit_voltage(kvp: float, low: float, high: float) -> Rejection:
    return Rejection(
        own_codes.UNFIT_VOLTAGE,
        f"taken at {kvp:g} kV: the relation of HU to BMD holds for {low:g} to {high:g} kV",
    )


def fracture_suspected(level: str, why: str) -> Rejection:
    return Rejection(own_codes.FRACTURE_SUSPECTED, f"fracture of {level} suspected: {why}")


def level_uncertain(why: str) -> Rejection:
    return Rejection(own_codes.LEVEL_UNCERTAIN, f"level uncertain: {why}")


def out_of_view(level: str) -> Rejection:
    return Rejection(own_codes.OUT_OF_VIEW, f"{level} is not, or not wholly, in the volume")


def metal(level: str, ml: float) -> Rejection:
    return Rejection(own_codes.METAL, f"metal ({ml:.1f} ml above 2500 HU) at {level}")


def implausible(level: str, hu: float) -> Rejection:
    return Rejection(
        own_codes.IMPLAUSIBLE_HU,
        f"the trabecular region of {level} has {hu:.0f} HU: cement, sclerosis or a wrong region",
    )


def region_too_small(level: str, ml: float) -> Rejection:
    return Rejection(
        own_codes.REGION_TOO_SMALL,
        f"the trabecular region of {level} is only {ml:.1f} ml: collapsed, or badly found",
    )
