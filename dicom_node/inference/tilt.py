"""Slices of a tilted gantry: how far each must be moved to make a straight stack. No pixels here.

The table moves along the body while the slices lie across the tilted gantry's axis, so that each
is shifted in its own plane against the one before (a sheared stack). The slices are moved back by
whole pixels: no value is interpolated, every slice stays one image of the series, and what is
found on it is moved back onto that image. A slice is at most half a pixel off its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_node.inference.planes import Plane

_STRAIGHT: Final = 0.01
"""Tangent of the angle between the normal and the way from slice to slice, beside …"""
_ROUNDING_MM: Final = 0.05
"""… the rounding of positions in headers."""
_OFF_THE_LINE_MM: Final = 0.5
MOST_DEGREES: Final = 25.0
"""Beyond it the slices are no cross-sections of a vertebra any more."""

Shift = tuple[int, int]
"""(rows down, columns to the right) at which a slice lies in the stack's frame; never below 0."""


@dataclass(frozen=True, slots=True)
class Tilt:
    """How a stack is sheared.

    Attributes:
        degrees: Between the slices' normal and the way from slice to slice.
        regular: All slices lie on one line.
        shifts: Of each slice, to make the stack straight, in a frame that is so much larger that
            none is cut. Empty: it is straight.
    """

    degrees: float
    regular: bool
    shifts: tuple[Shift, ...] = ()


def tilt_of(ordered: Sequence[Plane]) -> Tilt:
    """Measure the tilt of slices that are in order, at least two."""
    first = ordered[0]
    places = np.array([plane.position for plane in ordered])
    places = places - places[len(places) // 2]
    height = places @ first.normal
    along = places @ first.orientation.reshape(2, 3).T  # along a row, along a column
    slope = _slope(height, along)
    degrees = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    centred = along - along.mean(0) - np.outer(height - height.mean(), slope)
    regular = bool(np.linalg.norm(centred, axis=1).max() <= _OFF_THE_LINE_MM)
    extent = float(np.ptp(height))
    if np.linalg.norm(slope) * extent <= _STRAIGHT * extent + _ROUNDING_MM:
        return Tilt(degrees, regular)
    moved = np.round(along / np.array([first.spacing[1], first.spacing[0]])).astype(int)
    moved -= moved.min(0)
    return Tilt(degrees, regular, tuple((int(down), int(right)) for right, down in moved))


def _slope(
    height: npt.NDArray[np.float64], along: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    centred = height - height.mean()
    return np.asarray(centred @ (along - along.mean(0)) / (centred @ centred), np.float64)
