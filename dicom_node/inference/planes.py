"""Where the slices of a CT series lie, read from headers alone: classic or enhanced multi-frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.inference.display import number
from dicom_node.model.findings import ImageReference

_HOUNSFIELD: Final = frozenset({"", "HU", "US"})
"""Rescale Type (0028,1054): US, unspecified, is what many scanners write for Hounsfield units.
HU_MOD (PS3.3 C.11.1.1.2) is not among them: a multi-energy CT has changed the numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One slice.

    Attributes:
        file: Which of the series' files holds it, and `frame` which of its frames, from 0.
        position: Centre of the first pixel, LPS mm; (3,).
        orientation: Direction of a row, then of a column (PS3.3 C.7.6.2.1.1); (6,).
        spacing: (row, column) in mm.
        rescale: (slope, intercept) to Hounsfield units; None when the header gives none.
        acquisition: Acquisition Number; tells passes over the same place apart.
        number: Instance Number, or the frame's; tells which of two at one place came first.
    """

    file: int
    frame: int
    reference: ImageReference
    position: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.float64]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    rescale: tuple[float, float] | None
    acquisition: int
    number: int

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit vector across the slice, towards the head (or, in the plane of the body, as is)."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(-normal if normal[2] < 0 else normal, np.float64)


@dataclass(frozen=True, slots=True)
class Headers:
    """The planes of a series, and what was left out.

    Attributes:
        localizers: How many images are localizers.
        unplaced: How many images do not say where they lie.
    """

    planes: tuple[Plane, ...]
    localizers: int
    unplaced: int


def planes_of(headers: Iterable[Dataset]) -> Headers:
    """Read the planes of a series from its headers, in their order; none is kept."""
    planes: list[Plane] = []
    localizers = unplaced = 0
    for number_, header in enumerate(headers):
        if _is_localizer(header.get("ImageType")):
            localizers += 1
            continue
        groups = header.get("PerFrameFunctionalGroupsSequence")
        found = _frames(number_, header, groups) if groups else [_classic(number_, header)]
        placed = [plane for plane in found if plane is not None]
        unplaced += len(found) - len(placed)
        planes += placed
    return Headers(tuple(planes), localizers, unplaced)


def _is_localizer(image_type: Any) -> bool:
    values = [image_type] if isinstance(image_type, str) else image_type or ()
    return "LOCALIZER" in [str(value).strip().upper() for value in values]


def _classic(file: int, header: Dataset) -> Plane | None:
    return _plane(file, 0, header, [header], None)


def _frames(file: int, header: Dataset, groups: Sequence[Dataset]) -> list[Plane | None]:
    """Read the frames of an enhanced image (PS3.3 C.7.6.16)."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    several = len(groups) > 1
    return [
        _plane(
            file,
            frame,
            header,
            [*_macros(group), *_macros(shared)],
            frame + 1 if several else None,
        )
        for frame, group in enumerate(groups)
    ]


def _macros(group: Dataset) -> list[Dataset]:
    """Return the first item of each macro: the attributes wanted here stand in only one each."""
    return [element.value[0] for element in group if element.VR == "SQ" and element.value]


def _plane(
    file: int, frame: int, header: Dataset, where: Sequence[Dataset], number_: int | None
) -> Plane | None:
    position = _numbers(where, "ImagePositionPatient", 3)
    orientation = _numbers(where, "ImageOrientationPatient", 6)
    spacing = _numbers(where, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None or spacing.min() <= 0:
        return None
    lengths = np.linalg.norm(orientation.reshape(2, 3), axis=1)
    if abs(lengths - 1).max() > 0.01 or abs(orientation[:3] @ orientation[3:]) > 0.01:
        return None
    return Plane(
        file,
        frame,
        ImageReference(
            str(header.get("SOPClassUID", "")),
            str(header.get("SOPInstanceUID", "")),
            str(header.get("SeriesInstanceUID", "")),
            number_,
        ),
        position,
        orientation,
        (float(spacing[0]), float(spacing[1])),
        (int(header.get("Rows") or 0), int(header.get("Columns") or 0)),
        _rescale(where),
        int(_first(where, "AcquisitionNumber") or _first(where, "FrameAcquisitionNumber") or 0),
        number_ or int(number(header, "InstanceNumber") or 0),
    )


def _rescale(where: Sequence[Dataset]) -> tuple[float, float] | None:
    slope, intercept = _first(where, "RescaleSlope"), _first(where, "RescaleIntercept")
    kinds = [str(item.get("RescaleType") or "").strip().upper() for item in where]
    if not slope or intercept is None or not _HOUNSFIELD.issuperset(kinds):
        return None
    return slope, intercept


def _first(where: Sequence[Dataset], keyword: str) -> float | None:
    found = (number(item, keyword) for item in where)
    return next((value for value in found if value is not None), None)


def _numbers(where: Sequence[Dataset], keyword: str, count: int) -> npt.NDArray[np.float64] | None:
    for item in where:
        try:
            values = np.array([float(value) for value in item.get(keyword) or ()])
        except (TypeError, ValueError):
            continue
        if values.shape == (count,) and np.isfinite(values).all():
            return values
    return None
