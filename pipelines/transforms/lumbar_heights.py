"""The height of a vertebral body at its front, middle and back: is a fracture to be suspected?

A body that has lost a fifth of its height somewhere against its back, or of its back's height
against its neighbours, is at least a grade 1 fracture of Genant et al., J Bone Miner Res
1993;8:1137-1148. Its density is that of broken bone and is not reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

Array = npt.NDArray[np.float64]
_PLACES: Final = {"front": 0.45, "middle": 0.0, "back": -0.45}
"""Shares of the half depth at which the height is taken, to the front."""
_PATCH_MM: Final = (4.0, 22.0)
"""Front to back, and across: an end plate is wide, a bone island is not."""
_STEP_MM: Final = 0.5
_BEYOND_MM: Final = 8.0


@dataclass(frozen=True)
class Heights:
    """Of one body, in mm; NaN where an end plate is not seen."""

    front: float
    middle: float
    back: float

    @property
    def least_ratio(self) -> float:
        """The smaller of front and middle over back."""
        return float(np.fmin(self.front, self.middle) / self.back)


def measure_heights(
    hu: npt.NDArray[np.float32],
    body: npt.NDArray[np.bool_],
    spacing: Array,
    axis: Array,
    to_front: Array,
) -> Heights:
    """Measure between the end plates: the outer flank of the cortex along the axis.

    Args:
        hu, body: [h, w, d] around the body, and its mask.
        axis, to_front: Unit vectors in mm along the box's axes: to the head, and to the front.
    """
    to_front = to_front - (to_front @ axis) * axis
    to_front = to_front / max(float(np.linalg.norm(to_front)), 1e-6)
    side = np.cross(axis, to_front)
    at = np.argwhere(body) * spacing
    centre = at.mean(0)
    height = (at - centre) @ axis
    depth = (at - centre) @ to_front
    low, high = np.percentile(height, (1, 99))
    back, front = np.percentile(depth, (1, 99))
    # voxels are counted by their centres
    low, high = low - spacing.mean() / 4, high + spacing.mean() / 4
    smooth = ndimage.gaussian_filter(hu, 0.5 / spacing)
    found = {}
    for name, share in _PLACES.items():
        middle = centre + to_front * (share * (front if share > 0 else -back))
        found[name] = _height(
            smooth, spacing, middle, axis, to_front, side, float(low), float(high)
        )
    return Heights(**found)


def suspect(name: str, heights: Mapping[str, Heights], least_ratio: float) -> str | None:
    """Say why a fracture of `name` is suspected, or None."""
    own = heights[name]
    if own.least_ratio < least_ratio:
        where = "front" if own.front < own.middle else "middle"
        return f"its {where} is {own.least_ratio:.0%} as high as its back"
    for place in _PLACES:
        others = [getattr(h, place) for n, h in heights.items() if n != name]
        others = [value for value in others if np.isfinite(value)]
        if len(others) >= 2:
            share = float(getattr(own, place) / np.median(others))
            if share < least_ratio:
                return f"its {place} is {share:.0%} as high as its neighbours'"
    return None


def _height(
    hu: npt.NDArray[np.float32], spacing: Array, middle: Array, axis: Array,
    to_front: Array, side: Array, low: float, high: float,
) -> float:  # fmt: skip
    ticks, across = (np.linspace(-mm / 2, mm / 2, 9) for mm in _PATCH_MM)
    t = np.arange(low - _BEYOND_MM, high + _BEYOND_MM + _STEP_MM / 2, _STEP_MM)
    points = (
        middle
        + t[:, None, None, None] * axis
        + ticks[None, :, None, None] * to_front
        + across[None, None, :, None] * side
    )
    values = ndimage.map_coordinates(
        hu, np.moveaxis(points / spacing, -1, 0), order=1, mode="nearest"
    )
    profile = np.median(values.mean(1), axis=1)
    slope = np.gradient(ndimage.gaussian_filter1d(profile, 1.5), _STEP_MM)
    middle_t = (low + high) / 2
    up = _first_fall(slope, t, middle_t + 0.12 * (high - low), 1.0)
    down = _first_fall(slope, t, middle_t - 0.12 * (high - low), -1.0)
    return up - down


def _first_fall(slope: Array, t: Array, start: float, sign: float) -> float:
    """Where HU first fall steeply on the way out from `start`: the end plate's outer flank.

    First, not steepest: the neighbour's end plate lies further out and may be denser.
    """
    score = np.where(sign * t > sign * start, -sign * slope, 0.0)
    peaks, _ = signal.find_peaks(score, height=max(10.0, 0.4 * float(score.max())))
    if not peaks.size:
        return float("nan")
    return float(t[peaks[0] if sign > 0 else peaks[-1]])
