"""A CT series as it arrives, made into one volume in Hounsfield units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.errors import ImageError
from dicom_node.inference.radiograph import decode_pixels
from dicom_node.model import own_codes
from dicom_node.model.codes import Code
from dicom_node.model.findings import ImageReference

_SAME_DIRECTION: Final = 1e-3
_SPACING_TOLERANCE: Final = 0.1
"""Share of the spacing by which the distance of two slices may differ."""
_TILT: Final = 0.02
"""Sine of the angle between the normal and the way from slice to slice."""
_WINDOW: Final = (-150.0, 850.0)
"""HU shown: soft tissue is seen, bone is not burnt out."""


class UnfitVolumeError(ImageError):
    """The series makes no volume; `reason` is the code that the report gives."""

    def __init__(self, reason: Code, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One series.

    Attributes:
        values: float32 HU [H, W, D], slices from feet to head.
        affine: 4×4, voxel index (row, column, slice) to RAS mm, as MONAI and NIfTI have it.
        references: One for each slice.
    """

    values: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    references: tuple[ImageReference, ...]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(row, column, slice) in mm."""
        row, column, between = (float(n) for n in np.linalg.norm(self.affine[:3, :3], axis=0))
        return row, column, between


@dataclass(frozen=True, slots=True)
class _Slice:
    dataset: Dataset
    position: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.float64]
    spacing: tuple[float, float]

    @property
    def uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)


def read_volume(datasets: Sequence[Dataset]) -> Volume:
    """Build the volume of a series: sorted, without doubles, localizers left out.

    Raises:
        UnfitVolumeError: Slices are missing, spaced irregularly, tilted or too few.
        ImageError: Pixels cannot be decoded.
    """
    slices = _main_stack([found for d in datasets if (found := _slice(d)) is not None])
    if len(slices) < 2:
        raise UnfitVolumeError(
            own_codes.TOO_FEW_SLICES,
            "series",
            "fewer than two slices of one orientation and size",
            "send the whole axial series",
        )
    normal = np.cross(slices[0].orientation[:3], slices[0].orientation[3:])
    if normal[2] < 0:
        normal = -normal  # towards the head
    ordered = _without_doubles(sorted(slices, key=lambda s: float(s.position @ normal)), normal)
    step = _step(ordered, normal)
    first = ordered[0]
    row_mm, column_mm = first.spacing
    values = np.stack([_hounsfield(item.dataset) for item in ordered], axis=-1)
    affine = np.eye(4)
    # rows follow the direction of a column, columns that of a row (PS3.3 C.7.6.2.1.1)
    affine[:3, 0] = first.orientation[3:] * row_mm
    affine[:3, 1] = first.orientation[:3] * column_mm
    affine[:3, 2] = normal * step
    affine[:3, 3] = first.position
    affine[:2] *= -1  # DICOM's LPS to RAS
    references = tuple(
        ImageReference(str(item.dataset.SOPClassUID), item.uid, str(item.dataset.SeriesInstanceUID))
        for item in ordered
    )
    return Volume(values, affine, references)


def windowed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return HU as shown: uint8, window -150 to 850 HU."""
    low, high = _WINDOW
    shown: npt.NDArray[np.uint8] = np.round(
        np.clip((values - low) / (high - low), 0, 1) * 255
    ).astype(np.uint8)
    return shown


def _slice(dataset: Dataset) -> _Slice | None:
    """Read a slice's geometry; None for a localizer or one without geometry."""
    if "LOCALIZER" in [str(value).upper() for value in dataset.get("ImageType") or ()]:
        return None
    try:
        position = np.array([float(v) for v in dataset.ImagePositionPatient])
        orientation = np.array([float(v) for v in dataset.ImageOrientationPatient])
        row, column = (float(v) for v in dataset.PixelSpacing)
    except (AttributeError, TypeError, ValueError):
        return None
    if position.shape != (3,) or orientation.shape != (6,) or min(row, column) <= 0:
        return None
    return _Slice(dataset, position, orientation, (row, column))


def _main_stack(slices: Sequence[_Slice]) -> list[_Slice]:
    """Keep the slices of the most common geometry: a series may hold others among them."""

    def key(item: _Slice) -> tuple[object, ...]:
        return (
            tuple(np.round(item.orientation, 2)),
            tuple(np.round(item.spacing, 4)),
            int(item.dataset.Rows),
            int(item.dataset.Columns),
        )

    if not slices:
        return []
    most, _ = Counter(map(key, slices)).most_common(1)[0]
    return [item for item in slices if key(item) == most]


def _without_doubles(ordered: Sequence[_Slice], normal: npt.NDArray[np.float64]) -> list[_Slice]:
    """Keep the first of slices at one position, in the order of their UIDs."""
    kept: list[_Slice] = []
    for item in ordered:
        if kept and abs(float((item.position - kept[-1].position) @ normal)) < 0.01:
            if item.uid < kept[-1].uid:
                kept[-1] = item
            continue
        kept.append(item)
    return kept


def _step(ordered: Sequence[_Slice], normal: npt.NDArray[np.float64]) -> float:
    """Return the distance of the slices in mm; all must have the same."""
    if len(ordered) < 2:
        raise UnfitVolumeError(
            own_codes.TOO_FEW_SLICES, "series", "all slices lie at one place", "send the series"
        )
    ways = np.diff([item.position for item in ordered], axis=0)
    distances = ways @ normal
    step = float(np.median(distances))
    sideways = np.linalg.norm(ways - distances[:, None] * normal, axis=1)
    if (sideways > _TILT * np.abs(distances) + 0.05).any():
        raise UnfitVolumeError(
            own_codes.UNFIT_GEOMETRY,
            "series",
            "the slices are shifted against each other (gantry tilt)",
            "send a series reconstructed without tilt",
        )
    gaps = np.abs(distances - step) > _SPACING_TOLERANCE * step
    if gaps.any():
        raise UnfitVolumeError(
            own_codes.UNFIT_GEOMETRY,
            "series",
            f"slices are missing or spaced unevenly: {int(gaps.sum())} distances differ from "
            f"{step:.2f} mm",
            "send the whole series",
        )
    return step


def _hounsfield(dataset: Dataset) -> npt.NDArray[np.float32]:
    stored = decode_pixels(dataset)
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    return (stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)).astype(
        np.float32
    )
