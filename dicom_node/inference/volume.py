"""A CT series as it arrives, made into one volume in Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_node.inference.files import read_file, read_header
from dicom_node.inference.pixels import decode_frames
from dicom_node.inference.planes import Plane, planes_of
from dicom_node.inference.stack import stack_of
from dicom_node.model.findings import ImageReference

_AIR: Final = -1024.0
"""Less than this is padding around the scanner's field of view, not attenuation."""
_WINDOW: Final = (-150.0, 850.0)
"""HU shown: soft tissue is seen, bone is not burnt out."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One series.

    Attributes:
        values: float32 HU [H, W, D], slices from feet to head; not less than -1024.
        affine: 4×4, voxel index (row, column, slice) to RAS mm, as MONAI and NIfTI have it.
        references: One for each slice.
        notes: What was left out, for the reader.
    """

    values: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    references: tuple[ImageReference, ...]
    notes: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(row, column, slice) in mm."""
        row, column, between = (float(n) for n in np.linalg.norm(self.affine[:3, :3], axis=0))
        return row, column, between


def read_volume(files: Sequence[Path]) -> Volume:
    """Build the volume of a series: sorted, without doubles, localizers left out.

    Raises:
        UnfitVolumeError: Slices are missing, spaced irregularly, tilted, mixed or too few.
        ImageError: A file cannot be read or its pixels cannot be decoded.
    """
    stack = stack_of(planes_of([read_header(file) for file in files]))
    shape = stack.planes[0].shape
    slices = np.empty((len(stack.planes), *shape), np.float32)
    places = sorted(enumerate(stack.planes), key=lambda item: item[1].file)
    for number, members in groupby(places, key=lambda item: item[1].file):
        frames = decode_frames(read_file(files[number]))
        for place, plane in members:
            slices[place] = _hounsfield(frames[plane.frame], plane)
    # one slice after the other in memory, slices along the last axis for MONAI
    values = np.moveaxis(slices, 0, -1)
    return Volume(values, stack.affine, tuple(p.reference for p in stack.planes), stack.notes)


def windowed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return HU as shown: uint8, window -150 to 850 HU."""
    low, high = _WINDOW
    shown = np.clip((values - low) / np.float32(high - low), 0, 1)
    picture: npt.NDArray[np.uint8] = np.round(shown * 255).astype(np.uint8)
    return picture


def _hounsfield(stored: npt.NDArray[Any], plane: Plane) -> npt.NDArray[np.float32]:
    slope, intercept = plane.rescale or (1.0, 0.0)
    values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    hounsfield: npt.NDArray[np.float32] = np.maximum(values, np.float32(_AIR))
    return hounsfield
