"""Fit a body's surface to the image: from the network's blob to the cortex.

The network's 4 mm map says where a body is, not where its shell ends. Rays from the body's axis
find the outer flank of the cortex; discs and the blob itself bound what no edge bounds (the
pedicles leave the body through its back).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
ANGLES: Final = 48
_STEP_MM: Final = 0.5
_SLICES: Final = 16


def fit_surface(
    hu: npt.NDArray[np.float32],
    blob: Mask,
    spacing: Array,
    axis: Array,
    search_mm: Sequence[float] = (5.0, 3.5),
    weight: float = 0.85,
) -> npt.NDArray[np.float32]:
    """How deep inside the body each voxel's centre lies, mm; negative outside; on the same box.

    The depth is that below the fitted surface, not below the voxels that it cuts, so a region
    "4 mm inside" is the same bone however coarse the scan is. Fitted once per entry of `search_mm`.

    Args:
        hu: [h, w, d] around the body.
        blob: The network's body on that box; its surface is the first guess.
        spacing: Of the box's voxels, mm.
        axis: Unit vector along the body's axis in mm of the box's axes.
        search_mm: How far from the guess the edge may be, in each round.
        weight: 0 keeps the guess, 1 follows the edges alone.
    """
    # what cannot be fitted: to the middle of the voxel that is no longer inside
    depth = np.where(
        blob, ndimage.distance_transform_edt(np.pad(blob, 1), spacing)[1:-1, 1:-1, 1:-1], -1.0
    ) - 0.5 * np.where(blob, float(np.mean(spacing)), 0.0)
    for reach in search_mm:
        if blob.sum() >= 30:
            depth = _fit(hu, blob, spacing, axis, reach, weight)
            blob = depth >= 0
    return depth.astype(np.float32)


def _fit(
    hu: npt.NDArray[np.float32],
    blob: Mask,
    spacing: Array,
    axis: Array,
    search_mm: float,
    weight: float,
) -> Array:
    centre = np.array(ndimage.center_of_mass(blob)) * spacing
    u, v = _across(axis)
    low, high = np.percentile((np.argwhere(blob) * spacing - centre) @ axis, (0.5, 99.5))
    levels = np.linspace(low * 0.85, high * 0.85, 7)
    guess = _radii(blob.astype(np.float32), 0.5, centre, axis, u, v, levels, spacing)
    smooth = ndimage.gaussian_filter(hu, 0.6 / spacing)
    edge = _edges(smooth, guess, search_mm, centre, axis, u, v, levels, spacing)
    # An edge far from its neighbours' is another bone's; the blob fills in where there is none.
    shift = np.where(np.isfinite(edge), edge - guess, np.nan)
    typical = np.array([np.median(s[np.isfinite(s)]) if np.isfinite(s).any() else 0 for s in shift])
    shift = np.where(np.isfinite(shift), shift, typical[:, None])
    around = np.concatenate([shift[:, -3:], shift, shift[:, :3]], axis=1)
    shift = ndimage.median_filter(around, (3, 5), mode="nearest")[:, 3:-3]
    shift = ndimage.gaussian_filter(shift, (0.7, 1.2), mode=("nearest", "wrap"))
    radii = guess + weight * shift
    bottom, top = _ends(smooth, radii, low, high, centre, axis, u, v, spacing, weight)
    wrapped = np.concatenate([radii, radii[:, :1]], axis=1)
    depth = np.empty(blob.shape)
    # a few slices at a time: thin ones make boxes of millions of voxels
    for first in range(0, blob.shape[2], _SLICES):
        part = depth[..., first : first + _SLICES]
        points = np.stack(np.indices(part.shape), -1)
        points = (points + np.array([0, 0, first])) * spacing - centre
        height = points @ axis
        angle = np.arctan2(points @ v, points @ u) % (2 * np.pi) / (2 * np.pi) * ANGLES
        at = np.interp(height, levels, np.arange(len(levels)))
        limit = ndimage.map_coordinates(wrapped, [at, angle], order=1, mode="nearest")
        distance = np.sqrt(np.maximum((points**2).sum(-1) - height**2, 0))
        part[:] = np.minimum(limit - distance, np.minimum(height - bottom, top - height))
    return depth


def _across(axis: Array) -> tuple[Array, Array]:
    """Two unit vectors at right angles to the axis."""
    first = np.array([1.0, 0.0, 0.0]) - axis[0] * axis
    if np.linalg.norm(first) < 0.3:
        first = np.array([0.0, 1.0, 0.0]) - axis[1] * axis
    first /= np.linalg.norm(first)
    return first, np.cross(axis, first)


def _rays(
    values: npt.NDArray[np.float32], r: Array, centre: Array, axis: Array, u: Array, v: Array,
    levels: Array, spacing: Array,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Values [levels, angles, radii] along rays from the axis."""
    angles = np.arange(ANGLES) / ANGLES * 2 * np.pi
    direction = np.cos(angles)[:, None] * u + np.sin(angles)[:, None] * v
    origin = centre + levels[:, None] * axis
    at = origin[:, None, None] + r[None, None, :, None] * direction[None, :, None]
    found = ndimage.map_coordinates(
        values, np.moveaxis(at / spacing, -1, 0), order=1, mode="nearest"
    )
    return np.asarray(found, np.float32)


def _radii(
    blob: npt.NDArray[np.float32], limit: float, centre: Array, axis: Array, u: Array, v: Array,
    levels: Array, spacing: Array,
) -> Array:  # fmt: skip
    """Where the blob ends on each ray, [levels, angles], mm."""
    r = np.arange(0, 45, _STEP_MM)
    inside = _rays(blob, r, centre, axis, u, v, levels, spacing) > limit
    ends = np.where(inside.all(-1), len(r) - 1, np.argmin(inside, axis=-1)) * _STEP_MM
    return np.asarray(ndimage.gaussian_filter(ends, (0.5, 1.0), mode=("nearest", "wrap")))


def _edges(
    hu: npt.NDArray[np.float32], guess: Array, search_mm: float, centre: Array, axis: Array,
    u: Array, v: Array, levels: Array, spacing: Array,
) -> Array:  # fmt: skip
    """Radius of the steepest fall of HU near the guess, [levels, angles]; NaN where none is."""
    r = np.arange(0, 45 + search_mm, _STEP_MM)
    profile = _rays(hu, r, centre, axis, u, v, levels, spacing)
    fall = -np.gradient(profile, _STEP_MM, axis=-1)
    off = np.abs(r - guess[..., None])
    score = np.where(off <= search_mm, fall * (1 - 0.5 * off / search_mm), -np.inf)
    best = score.argmax(-1)
    strength = np.take_along_axis(fall, best[..., None], -1)[..., 0]
    return np.where(strength > 18.0, r[best], np.nan)


def _ends(
    hu: npt.NDArray[np.float32], radii: Array, low: float, high: float, centre: Array,
    axis: Array, u: Array, v: Array, spacing: Array, weight: float,
) -> tuple[float, float]:  # fmt: skip
    """Height of the lower and the upper end plate: where mean HU falls towards the disc."""
    t = np.arange(low - 5, high + 5, _STEP_MM)
    reach = 0.55 * float(np.median(radii))
    r = np.linspace(0, reach, 5)
    mean = _rays(hu, r, centre, axis, u, v, t, spacing).mean((1, 2))
    slope = np.gradient(ndimage.gaussian_filter1d(mean, 1.0), _STEP_MM)
    found = []
    for end, sign in ((low, 1.0), (high, -1.0)):
        near = np.abs(t - end) <= 4.0
        score = np.where(near, sign * slope, -np.inf)
        best = int(score.argmax())
        found.append(end + weight * (t[best] - end) if score[best] > 8.0 else end)
    return found[0], found[1]
