"""From maps of bodies, S1 and discs to named vertebrae: follow the column, count from S1."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

Map = npt.NDArray[np.float32]
NAMES: Final = ("L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8")
_SPACING_MM: Final = (21.0, 50.0)
_JUMP: Final = 1.55
_S1_ML: Final = 4.0


class LevelUncertainError(Exception):
    """The vertebrae cannot be named; the message says why, for the reader."""


@dataclass(frozen=True)
class Level:
    """One vertebral body on the grid.

    Attributes:
        centre: Grid index (X, Y, Z).
        axis: Unit vector towards the head, in grid voxels of equal size.
        low, high: Distance in voxels from `centre` along `axis` to the middle of the disc
            below and above (low is negative).
        complete: False when the volume's edge cuts the body.
    """

    name: str
    centre: npt.NDArray[np.float64]
    axis: npt.NDArray[np.float64]
    low: float
    high: float
    complete: bool


def name_levels(probabilities: Map, spacing_mm: float) -> list[Level]:
    """Vertebrae above S1, L5 first.

    Args:
        probabilities: [3, X, Y, Z] of body, S1, disc.
        spacing_mm: Isotropic spacing of the grid.

    Raises:
        LevelUncertainError: No spine, no S1, or a spacing that means a missed or merged level.
    """
    body, s1, disc = probabilities
    column = np.maximum(np.maximum(body, s1), disc)
    inside, curve = _curve(column)
    positions, tangents = _arc(curve)
    profile = _profile(np.maximum(body, s1) - disc, positions, tangents, spacing_mm)
    s1_profile = _profile(s1 * inside, positions, tangents, spacing_mm)
    if float((s1 * inside > 0.5).sum()) * (spacing_mm / 10) ** 3 < _S1_ML:
        raise LevelUncertainError(
            "the sacrum (S1) is not in view, so the lumbar vertebrae cannot be counted"
        )
    anchor = float(np.average(np.arange(len(profile)), weights=s1_profile.clip(1e-6) ** 2))
    # Sampled at half a voxel: distances in samples.
    per_mm = 2.0 / spacing_mm
    peaks, _ = signal.find_peaks(
        np.pad(profile, 1, constant_values=-1.0),
        distance=max(2, int(17 * per_mm)),
        prominence=0.18,
        height=0.3,
    )
    peaks = peaks - 1
    above = [int(p) for p in peaks if p > anchor + 14 * per_mm]
    if not above:
        raise LevelUncertainError("no vertebral body was found above the sacrum")
    base = [int(p) for p in peaks if p <= anchor + 14 * per_mm]
    start = base[-1] if base else round(anchor)
    stations = [start, *above]
    gaps = np.diff(stations) / per_mm
    _check_spacing(gaps[: len(NAMES)])
    cuts = [a + int(np.argmin(profile[a : b + 1])) for a, b in pairwise(stations)]
    levels = []
    top_z = body.shape[2] - 1
    for index, _station in enumerate(above[: len(NAMES)]):
        low_cut = cuts[index]
        closed = index + 1 < len(cuts)
        high_cut = cuts[index + 1] if closed else _end(profile, above[index])
        middle = (low_cut + high_cut) // 2
        edge = positions[min(high_cut, len(positions) - 1)][2]
        complete = closed or edge < top_z - 1.5
        levels.append(
            Level(
                NAMES[index],
                positions[middle],
                tangents[middle],
                (low_cut - middle) / 2,
                (high_cut - middle) / 2,
                complete,
            )
        )
    return levels


def _check_spacing(gaps_mm: npt.NDArray[np.floating]) -> None:
    """Neighbouring centres of five lumbar vertebrae lie 21 to 50 mm apart and change slowly."""
    lumbar = gaps_mm[:5]
    if len(lumbar) and (lumbar.min() < _SPACING_MM[0] or lumbar.max() > _SPACING_MM[1]):
        raise LevelUncertainError(
            "two neighbouring vertebrae appear "
            f"{lumbar.min():.0f} to {lumbar.max():.0f} mm apart: one was missed or split"
        )
    changes = [max(a / b, b / a) for a, b in pairwise(lumbar[1:])]
    if changes and max(changes) > _JUMP:
        raise LevelUncertainError(
            "the distances between neighbouring vertebrae jump: one may be missed, split or broken"
        )


def _curve(column: Map) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """The column's largest piece, and its centre line [n, 3] from bottom to top."""
    labelled, count = ndimage.label(column > 0.4)
    if count == 0:
        raise LevelUncertainError("no vertebral column was found")
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    inside = labelled == int(sizes.argmax())
    weight = column * inside
    mass = weight.sum((0, 1))
    used = np.flatnonzero(mass > 0.15 * np.median(mass[mass > 0]))
    if used.size < 8:
        raise LevelUncertainError("too little of the vertebral column is in view")
    z = np.arange(used[0], used[-1] + 1)
    x_index, y_index = np.indices(column.shape[:2])
    x = np.interp(z, used, (weight * x_index[..., None]).sum((0, 1))[used] / mass[used])
    y = np.interp(z, used, (weight * y_index[..., None]).sum((0, 1))[used] / mass[used])
    smooth = lambda v: ndimage.gaussian_filter1d(v, 2.0, mode="nearest")  # noqa: E731
    return inside, np.stack([smooth(x), smooth(y), z.astype(np.float64)], axis=1)


def _arc(
    curve: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positions every half voxel along the curve, and unit tangents towards the head."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.arange(0, length[-1] + 1e-6, 0.5)
    positions = np.stack([np.interp(at, length, curve[:, k]) for k in range(3)], axis=1)
    tangents = np.gradient(
        ndimage.gaussian_filter1d(positions, 6.0, axis=0, mode="nearest"), axis=0
    )
    return positions, tangents / np.linalg.norm(tangents, axis=1, keepdims=True)


def _profile(
    values: Map,
    positions: npt.NDArray[np.float64],
    tangents: npt.NDArray[np.float64],
    spacing_mm: float,
) -> npt.NDArray[np.float64]:
    """Mean of `values` over discs of 11 mm radius across the curve, smoothed."""
    radius = 11.0 / spacing_mm
    ticks = np.linspace(-radius, radius, 7)
    u, v = (g.ravel() for g in np.meshgrid(ticks, ticks))
    keep = u**2 + v**2 <= radius**2
    lateral = np.tile([1.0, 0.0, 0.0], (len(tangents), 1))
    lateral -= (lateral * tangents).sum(1, keepdims=True) * tangents
    lateral /= np.linalg.norm(lateral, axis=1, keepdims=True)
    depth = np.cross(tangents, lateral)
    points = (
        positions[:, None]
        + u[keep][None, :, None] * lateral[:, None]
        + v[keep][None, :, None] * depth[:, None]
    )
    sampled = ndimage.map_coordinates(values, points.reshape(-1, 3).T, order=1, mode="nearest")
    mean = sampled.reshape(len(positions), -1).mean(1)
    return np.asarray(ndimage.gaussian_filter1d(mean, 1.5, mode="nearest"), np.float64)


def _end(profile: npt.NDArray[np.float64], peak: int) -> int:
    """Where the topmost body ends: the profile falls below a third of its peak."""
    below = np.flatnonzero(profile[peak:] < profile[peak] / 3)
    return peak + int(below[0]) if below.size else len(profile) - 1
