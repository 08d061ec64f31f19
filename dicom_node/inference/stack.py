"""Slices to one regular stack, or the reason why they make none. No pixels here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_node.errors import ImageError
from dicom_node.inference.planes import Headers, Plane
from dicom_node.inference.spacing import unevenness
from dicom_node.inference.tilt import MOST_DEGREES, Shift, tilt_of
from dicom_node.model import own_codes
from dicom_node.model.codes import Code

_SAME_DIRECTION: Final = 0.01
_SAME_SPACING_MM: Final = 0.001
_MAIN_SHARE: Final = 2 / 3
"""Fewer of a series' slices than this in one geometry: it is not one stack with a few strays."""
_SAME_PLACE_MM: Final = 0.01
_MOST_VOXELS: Final = 2**29
"""More are not read, so that memory is bounded: 2,048 slices of 512 by 512 pixels."""


class UnfitVolumeError(ImageError):
    """The series makes no volume; `reason` is the code that the report gives."""

    def __init__(self, reason: Code, why: str, fix: str) -> None:
        super().__init__("series", why, fix)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """A regular stack.

    Attributes:
        planes: From feet to head.
        step: Distance of two slices in mm.
        notes: What was left out or changed, for the reader.
        shifts: Where the slices of a tilted gantry lie in the stack's frame (`tilt`); empty: they
            are straight, and fill it.
    """

    planes: tuple[Plane, ...]
    step: float
    notes: tuple[str, ...]
    shifts: tuple[Shift, ...] = ()

    @property
    def frame(self) -> tuple[int, int]:
        """(rows, columns) that hold all slices where they lie."""
        rows, columns = self.planes[0].shape
        down, right = np.max(self.shifts, axis=0) if self.shifts else (0, 0)
        return rows + int(down), columns + int(right)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4×4, voxel index (row, column, slice) to RAS mm, as MONAI and NIfTI have it.

        It holds for the stack's frame.
        """
        first = self.planes[0]
        affine = np.eye(4)
        # going down the rows follows the direction of a column, and the other way round
        affine[:3, 0] = first.orientation[3:] * first.spacing[0]
        affine[:3, 1] = first.orientation[:3] * first.spacing[1]
        affine[:3, 2] = first.normal * self.step
        affine[:3, 3] = first.position
        if self.shifts:
            # the slice that the others were measured against lies where it says
            middle = len(self.planes) // 2
            corner = affine[:3, :3] @ [*self.shifts[middle], middle]
            affine[:3, 3] = self.planes[middle].position - corner
        affine[:2] *= -1  # DICOM's LPS to RAS
        return affine


def stack_of(headers: Headers) -> Stack:
    """Put a series' slices in order, without localizers, strays and doubles.

    Raises:
        UnfitVolumeError: They are too few or too many, of mixed geometry, tilted too much, missing
            or spaced unevenly.
    """
    main = _main_group(headers.planes)
    if len(main) < 2:
        raise UnfitVolumeError(
            own_codes.TOO_FEW_SLICES,
            "the series has fewer than two slices of one orientation and size",
            "send the whole axial series",
        )
    if len(main) < _MAIN_SHARE * len(headers.planes):
        raise UnfitVolumeError(
            own_codes.UNFIT_GEOMETRY,
            "the series mixes slices of different orientation or pixel size",
            "send each reconstruction as a series of its own",
        )
    ordered = _without_doubles(main)
    if len(ordered) < 2:
        raise UnfitVolumeError(
            own_codes.TOO_FEW_SLICES, "all slices lie at one place", "send the whole axial series"
        )
    if any(plane.rescale is None for plane in ordered):
        raise UnfitVolumeError(
            own_codes.IMPLAUSIBLE_HU,
            "the images do not say how their values become Hounsfield units",
            "send the original CT images",
        )
    shifts, notes = _shifts(ordered)
    left_out = _notes(headers, len(headers.planes) - len(main), len(main) - len(ordered))
    stack = Stack(tuple(ordered), _step(ordered), (*left_out, *notes), shifts)
    if len(ordered) * stack.frame[0] * stack.frame[1] > _MOST_VOXELS:
        raise UnfitVolumeError(
            own_codes.UNFIT_GEOMETRY,
            f"the series has more than {_MOST_VOXELS} voxels, the most that are read",
            "send a reconstruction with thicker slices",
        )
    return stack


def _main_group(planes: Sequence[Plane]) -> list[Plane]:
    """Return the largest group of slices with the same orientation, spacing and size."""
    groups: list[list[Plane]] = []
    for plane in planes:
        for group in groups:
            if _alike(group[0], plane):
                group.append(plane)
                break
        else:
            groups.append([plane])
    return max(groups, key=len, default=[])


def _alike(one: Plane, other: Plane) -> bool:
    return (
        one.shape == other.shape
        and np.abs(one.orientation - other.orientation).max() < _SAME_DIRECTION
        and np.abs(np.subtract(one.spacing, other.spacing)).max() < _SAME_SPACING_MM
    )


def _without_doubles(planes: Sequence[Plane]) -> list[Plane]:
    """Keep one slice at each place: of several passes, those of the longest.

    Of what remains double the earlier by number is kept, which keeps to one pass where scanners
    give all the same Acquisition Number; the order of arrival is no matter.
    """
    kept = _one_at_each_place(planes)
    if len(kept) == len(planes):
        return kept
    passes = Counter(plane.acquisition for plane in planes)
    longest = min(passes, key=lambda number: (-passes[number], number))
    return _one_at_each_place([plane for plane in planes if plane.acquisition == longest])


def _one_at_each_place(planes: Sequence[Plane]) -> list[Plane]:
    normal = planes[0].normal
    height = {id(plane): float(plane.position @ normal) for plane in planes}
    kept: list[Plane] = []
    for plane in sorted(planes, key=lambda p: (height[id(p)], _earliest(p))):
        if not kept or height[id(plane)] - height[id(kept[-1])] >= _SAME_PLACE_MM:
            kept.append(plane)
        else:
            kept[-1] = min(kept[-1], plane, key=_earliest)
    return kept


def _earliest(plane: Plane) -> tuple[int, str]:
    return plane.number, plane.reference.key


def _step(ordered: Sequence[Plane]) -> float:
    """Return the distance of the slices in mm; all must have the same."""
    distances = np.diff([plane.position @ ordered[0].normal for plane in ordered])
    uneven = unevenness(distances)
    if uneven:
        raise UnfitVolumeError(own_codes.UNFIT_GEOMETRY, *uneven)
    # the mean over the whole way is exact where single positions are rounded
    return float(distances.mean())


def _shifts(ordered: Sequence[Plane]) -> tuple[tuple[Shift, ...], tuple[str, ...]]:
    """Return how a tilted stack is made straight, and the note that tells of it."""
    tilt = tilt_of(ordered)
    if not tilt.regular:
        raise UnfitVolumeError(
            own_codes.UNFIT_GEOMETRY,
            "the slices are shifted against each other unevenly",
            "send a series of one reconstruction",
        )
    if tilt.degrees > MOST_DEGREES:
        raise UnfitVolumeError(
            own_codes.UNFIT_GEOMETRY,
            f"the gantry was tilted by {tilt.degrees:.0f} degrees; at most {MOST_DEGREES:g} are "
            "made straight",
            "send a series reconstructed without tilt",
        )
    if not tilt.shifts:
        return (), ()
    return tilt.shifts, (
        f"the gantry was tilted by {tilt.degrees:.0f} degrees: the slices were moved against each "
        "other by whole pixels",
    )


def _notes(headers: Headers, strays: int, doubles: int) -> tuple[str, ...]:
    left_out = {
        "localizer": headers.localizers,
        "without a position": headers.unplaced,
        "of another orientation or size": strays,
        "at the place of another": doubles,
    }
    return tuple(f"{count} images left out: {why}" for why, count in left_out.items() if count)
