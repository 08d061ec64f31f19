"""From any scan's voxels to a small RAS grid, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional


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
    """

    data: Tensor
    spacing: tuple[float, float, float]
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    step: tuple[float, float, float]
    size: tuple[int, int, int]

    def to_source(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Grid indices [..., 3] (X, Y, Z) to source voxel indices [..., 3]."""
        found = np.empty(np.shape(points), np.float64)
        for axis in range(3):
            index = (points[..., axis] + 0.5) * self.step[axis] - 0.5
            if self.flipped[axis]:
                index = self.size[axis] - 1 - index
            found[..., self.order[axis]] = index
        return found

    def direction_to_source(self, direction: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """A direction in mm along X, Y, Z to one along the source's axes."""
        turned = np.empty(3)
        for axis in range(3):
            turned[self.order[axis]] = -direction[axis] if self.flipped[axis] else direction[axis]
        return turned

    def from_source_axis(
        self, axis: int, index: npt.NDArray[np.floating]
    ) -> npt.NDArray[np.float64]:
        """Indices along the source axis that became grid axis `axis`, in grid voxels."""
        inner = self.size[axis] - 1 - index if self.flipped[axis] else index
        return np.asarray((inner + 0.5) / self.step[axis] - 0.5, np.float64)


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

    Blocks are averaged before interpolating, so thin noisy slices do not alias; no copy of the
    whole volume is made.
    """
    order, flipped = axes_of(affine)
    source_spacing = np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)
    factors = [max(1, int(spacing_mm / s + 0.25)) for s in source_spacing]
    factors = [min(f, n) for f, n in zip(factors, volume.shape, strict=True)]
    small = functional.avg_pool3d(volume[None, None].float(), factors, factors)
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


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
