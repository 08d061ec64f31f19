"""A CT series as it arrives, made into one volume in Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_node.errors import ImageError
from dicom_node.inference.files import DicomFile, read_file, read_header
from dicom_node.inference.pixels import frames_of
from dicom_node.inference.planes import Plane, planes_of
from dicom_node.inference.stack import Stack, stack_of
from dicom_node.inference.tilt import Shift
from dicom_node.model.findings import ImageReference

_AIR: Final = -1024.0
"""Less than this is padding around the scanner's field of view, not attenuation."""
_MOST: Final = 32767.0
"""More than this no metal has; a volume of whole numbers is kept in 16 bits."""
_WINDOW: Final = (-150.0, 850.0)
"""HU shown: soft tissue is seen, bone is not burnt out."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One series.

    Attributes:
        values: HU [H, W, D], slices from feet to head; not less than -1024. int16 where the
            rescale gives whole numbers, as nearly all scanners' does, else float32.
        affine: 4×4, voxel index (row, column, slice) to RAS mm, as MONAI and NIfTI have it.
        references: One for each slice.
        pictures: uint8 [D, H, W], each slice as it was sent, windowed.
        notes: What was left out, for the reader.
        shifts: Where each slice as it was sent lies in H, W; empty: it fills them.
    """

    values: npt.NDArray[np.float32] | npt.NDArray[np.int16]
    affine: npt.NDArray[np.float64]
    references: tuple[ImageReference, ...]
    pictures: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    shifts: tuple[Shift, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(row, column, slice) in mm."""
        row, column, between = (float(n) for n in np.linalg.norm(self.affine[:3, :3], axis=0))
        return row, column, between


def read_volume(files: Sequence[DicomFile]) -> Volume:
    """Build the volume of a series: sorted, without doubles, localizers left out.

    One file, of which one frame is decoded, is held in memory beside the volume.

    Raises:
        UnfitVolumeError: Slices are missing, spaced irregularly, tilted, mixed, too few or too
            many.
        ImageError: A file cannot be read or its pixels cannot be decoded.
    """
    stack = stack_of(planes_of(map(read_header, files)))
    count, sent = len(stack.planes), stack.planes[0].shape
    kind = np.int16 if _whole_numbers(stack) else np.float32
    slices = np.full((count, *stack.frame), _AIR, kind)
    pictures = np.empty((count, *sent), np.uint8)
    places = sorted(enumerate(stack.planes), key=lambda item: item[1].file)
    for number, members in groupby(places, key=lambda item: item[1].file):
        wanted = {plane.frame: (place, plane) for place, plane in members}
        for frame, stored in enumerate(frames_of(read_file(files[number]))):
            if frame not in wanted:
                continue
            place, plane = wanted.pop(frame)
            values = _hounsfield(stored, plane)
            pictures[place] = windowed(values)
            shift = stack.shifts[place] if stack.shifts else (0, 0)
            part_of(slices[place], shift, sent)[:] = values
        if wanted:
            place, _ = wanted.popitem()[1]
            what = f"instance {stack.planes[place].reference.sop_instance_uid}"
            raise ImageError(what, "it has fewer frames than its header says", "send it again")
    # one slice after the other in memory, slices along the last axis for MONAI
    return Volume(
        np.moveaxis(slices, 0, -1),
        stack.affine,
        tuple(p.reference for p in stack.planes),
        pictures,
        stack.notes,
        stack.shifts,
    )


def part_of(plane: npt.NDArray[Any], shift: Shift, sent: tuple[int, int]) -> npt.NDArray[Any]:
    """Return the part of a plane [H, W] of the volume on which its slice as sent lies; a view."""
    return plane[shift[0] : shift[0] + sent[0], shift[1] : shift[1] + sent[1]]


def _whole_numbers(stack: Stack) -> bool:
    return all(float(value).is_integer() for plane in stack.planes for value in plane.rescale or ())


def windowed(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return HU as shown: uint8, window -150 to 850 HU."""
    low, high = _WINDOW
    shown = np.clip((values - low) / np.float32(high - low), 0, 1)
    picture: npt.NDArray[np.uint8] = np.round(shown * 255).astype(np.uint8)
    return picture


def _hounsfield(stored: npt.NDArray[Any], plane: Plane) -> npt.NDArray[np.float32]:
    slope, intercept = plane.rescale or (1.0, 0.0)
    values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    hounsfield: npt.NDArray[np.float32] = np.clip(values, np.float32(_AIR), np.float32(_MOST))
    return hounsfield
