"""From any scan's voxels to a small RAS grid, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

_SLICES: Final = 32
"""So many are averaged at a time."""
_UPRIGHT: Final = float(np.cos(np.radians(3)))
_AIR: Final = -1000.0


@dataclass(frozen=True)
class RasGrid:
    """A coarse copy of a volume with axes to the right, front and head.

    Attributes:
        data: HU [X, Y, Z].
        spacing: Of `data`, mm along X, Y, Z.
        order: Source axis that each of X, Y, Z came from.
        flipped: Whether that axis was reversed.
        step: Source voxels per grid voxel, along X, Y, Z.
        size: Source voxels along each of X, Y, Z.
        turn: Of slices that lie obliquely, 4×4: index of `data` to that of a grid along the
            source's own axes; None: `data` lies along them.
        own_spacing: Of that grid.
    """

    data: Tensor
    spacing: tuple[float, float, float]
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    step: tuple[float, float, float]
    size: tuple[int, int, int]
    turn: npt.NDArray[np.float64] | None = None
    own_spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def to_source(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Grid indices [..., 3] (X, Y, Z) to source voxel indices [..., 3]."""
        if self.turn is not None:
            points = points @ self.turn[:3, :3].T + self.turn[:3, 3]
        found = np.empty(np.shape(points), np.float64)
        for axis in range(3):
            index = (points[..., axis] + 0.5) * self.step[axis] - 0.5
            if self.flipped[axis]:
                index = self.size[axis] - 1 - index
            found[..., self.order[axis]] = index
        return found

    def direction_to_source(self, direction: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """A direction in mm along X, Y, Z to one along the source's axes."""
        if self.turn is not None:
            direction = (self.turn[:3, :3] @ direction) * self.own_spacing
            direction = direction / np.linalg.norm(direction)
        turned = np.empty(3)
        for axis in range(3):
            turned[self.order[axis]] = -direction[axis] if self.flipped[axis] else direction[axis]
        return turned

    def from_source(
        self, low: npt.NDArray[np.int_], high: npt.NDArray[np.int_]
    ) -> npt.NDArray[np.float64]:
        """Grid indices [3, ...] of the source voxels from `low` to below `high`, along X, Y, Z."""
        along = []
        for axis in range(3):
            index = np.arange(low[self.order[axis]], high[self.order[axis]])
            inner = self.size[axis] - 1 - index if self.flipped[axis] else index
            along.append((inner + 0.5) / self.step[axis] - 0.5)
        points = np.stack(np.meshgrid(*along, indexing="ij"))
        if self.turn is not None:
            back = np.linalg.inv(self.turn)
            points = np.tensordot(back[:3, :3], points, 1) + back[:3, 3][:, None, None, None]
        return points


def axes_of(affine: npt.NDArray[np.floating]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which source axis runs nearest to R, A and S, and whether backwards.

    Raises:
        ValueError: The affine's axes are degenerate.
    """
    columns = np.asarray(affine, np.float64)[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.all(np.isfinite(columns)) or np.any(lengths < 1e-6):
        raise ValueError("the affine has an axis of no length")
    cosines = columns / lengths
    best: tuple[int, ...] = max(
        ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)),
        key=lambda order: sum(abs(cosines[world, source]) for world, source in enumerate(order)),
    )
    return best, tuple(bool(cosines[world, source] < 0) for world, source in enumerate(best))


def ras_grid(volume: Tensor, affine: npt.NDArray[np.floating], spacing_mm: float) -> RasGrid:
    """Average a volume [H, W, D] down to about `spacing_mm` and turn it to RAS.

    Slices within 3 degrees of the body's axes stay as they lie; others are turned upright.
    """
    order, flipped = axes_of(affine)
    columns = np.asarray(affine, np.float64)[:3, list(order)]
    axes = columns / np.linalg.norm(columns, axis=0) * np.where(flipped, -1.0, 1.0)
    if axes.diagonal().min() > _UPRIGHT:
        return _along_the_slices(volume, affine, spacing_mm)
    # from a finer grid: what is interpolated twice at the coarse one loses thin bone, like ribs
    return _upright(_along_the_slices(volume, affine, spacing_mm / 2), axes, spacing_mm)


def _along_the_slices(
    volume: Tensor, affine: npt.NDArray[np.floating], spacing_mm: float
) -> RasGrid:
    """Reduce a volume, its axes swapped and turned round but not oblique.

    Blocks are averaged before interpolating, so thin noisy slices do not alias; a few slices at a
    time, so no copy of the whole volume is made.
    """
    order, flipped = axes_of(affine)
    source_spacing = np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)
    factors = [max(1, int(spacing_mm / s + 0.25)) for s in source_spacing]
    factors = [min(f, n) for f, n in zip(factors, volume.shape, strict=True)]
    small = _block_means(volume, factors)
    used = [n * f for n, f in zip(small.shape[2:], factors, strict=True)]
    target = [max(1, round(u * s / spacing_mm)) for u, s in zip(used, source_spacing, strict=True)]
    small = functional.interpolate(small, size=target, mode="trilinear", align_corners=False)[0, 0]
    data = small.permute(order)
    turned = [axis for axis in range(3) if flipped[axis]]
    if turned:
        data = torch.flip(data, turned)
    steps = [used[a] / target[a] for a in order]
    # A reversed axis starts at the last voxel that was used, not at the volume's last.
    return RasGrid(
        data=data.contiguous(),
        spacing=_three([steps[i] * source_spacing[order[i]] for i in range(3)]),
        order=(order[0], order[1], order[2]),
        flipped=(flipped[0], flipped[1], flipped[2]),
        step=_three(steps),
        size=(used[order[0]], used[order[1]], used[order[2]]),
    )


def _upright(grid: RasGrid, axes: npt.NDArray[np.float64], spacing_mm: float) -> RasGrid:
    """Turn a fine grid along `axes` (unit columns) to one along R, A and S of `spacing_mm`."""
    fine = spacing_mm / 2
    ends = np.array(list(product(*((0, n - 1) for n in grid.data.shape))))
    places = (ends * grid.spacing) @ axes.T
    size = 2 * np.ceil((np.ptp(places, axis=0) / fine + 1) / 2).astype(int)
    back = np.linalg.inv(axes) / np.array(grid.spacing)[:, None]
    shift = back @ places.min(0)
    data = ndimage.affine_transform(
        grid.data.numpy(), back * fine, shift, tuple(size), order=1, cval=_AIR
    )
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = back * spacing_mm, shift + back @ np.full(3, fine / 2)
    small = functional.avg_pool3d(torch.from_numpy(data)[None, None], 2)[0, 0]
    return replace(grid, data=small, spacing=(spacing_mm,) * 3, turn=turn, own_spacing=grid.spacing)


def _block_means(volume: Tensor, factors: Sequence[int]) -> Tensor:
    """Means of whole blocks of `factors` voxels, [1, 1, h, w, d]."""
    # as the voxels lie in memory: pooling along strides reads each line of the cache many times
    lie = sorted(range(3), key=volume.stride, reverse=True)
    kernel = [factors[axis] for axis in lie]
    step = kernel[0] * max(1, _SLICES // kernel[0])
    parts = [p for p in volume.permute(lie).split(step) if p.shape[0] >= kernel[0]]
    means = [functional.avg_pool3d(part[None, None].float(), kernel, kernel) for part in parts]
    return torch.cat(means, 2).permute(0, 1, *(2 + lie.index(axis) for axis in range(3)))


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
