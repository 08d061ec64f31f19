"""Why `lumbar_bmd_ct` declines: the coded reason and the reader's sentence of each case."""

from __future__ import annotations

from dicom_node.model.codes import OWN_SCHEME, Code
from dicom_node.model.targets import Rejection


def _reason(value: str, meaning: str, text: str) -> Rejection:
    return Rejection(Code(value, OWN_SCHEME, meaning), text)


def contrast_given(why: str) -> Rejection:
    return _reason(
        "contrast-enhanced",
        "Contrast-enhanced image",
        f"contrast was given ({why}); it raises the HU of bone, so no BMD is derived",
    )


def too_thick(thickness_mm: float, limit_mm: float) -> Rejection:
    return _reason(
        "slices-too-thick",
        "Slices too thick",
        f"the slices are {thickness_mm:.1f} mm apart or thick; at most {limit_mm:g} mm are read",
    )


def too_few(slices: int, coverage_mm: float) -> Rejection:
    return _reason(
        "too-few-slices",
        "Too few slices",
        f"{slices} slices that cover {coverage_mm:.0f} mm are too few to find and count vertebrae",
    )


def not_axial() -> Rejection:
    return _reason("not-axial", "Not an axial series", "the slices are not axial")


def level_uncertain(why: str) -> Rejection:
    return _reason("level-uncertain", "Vertebral level uncertain", f"level uncertain: {why}")


def out_of_view(level: str) -> Rejection:
    return _reason(
        "out-of-view", "Anatomy out of view", f"{level} is not, or not wholly, in the volume"
    )


def metal(level: str, ml: float) -> Rejection:
    return _reason("metal", "Metal in the region", f"metal ({ml:.1f} ml above 2500 HU) at {level}")


def implausible(level: str, hu: float) -> Rejection:
    return _reason(
        "implausible-hu",
        "Implausible attenuation",
        f"the trabecular region of {level} has {hu:.0f} HU: cement, sclerosis or a wrong region",
    )


def region_too_small(level: str, ml: float) -> Rejection:
    return _reason(
        "region-too-small",
        "Region too small",
        f"the trabecular region of {level} is only {ml:.1f} ml: collapsed, or badly found",
    )
