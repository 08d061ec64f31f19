"""Painting soft-edged solids into a CT volume on a millimetre grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Array = npt.NDArray[np.float32]
Distance = Callable[[Array, Array, Array], Array]
"""Signed distance in mm of broadcastable x, y, z; negative inside."""


class Canvas:
    """A float volume [H, W, D] in HU; x to the patient's left, y to the back, z to the head.

    Attributes:
        volume: The HU painted so far.
        x, y, z: Coordinates in mm, shaped to broadcast over the volume.
        warp: Smooth displacement (dx, dy) in mm that makes soft tissue irregular.
        coarse, lumps, fine: Standard normal textures, about 9, 4.5 and 2 mm wide.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        z_bottom: float,
        rng: np.random.Generator,
    ) -> None:
        rows, columns, slices = shape
        self.volume = np.full(shape, -1000.0, np.float32)
        self.spacing = spacing
        self.y = ((np.arange(rows) - (rows - 1) / 2) * spacing[0]).astype(np.float32)[:, None, None]
        self.x = ((np.arange(columns) - (columns - 1) / 2) * spacing[1]).astype(np.float32)[
            None, :, None
        ]
        self.z = (np.arange(slices) * spacing[2] + z_bottom).astype(np.float32)[None, None, :]
        self.rng = rng
        self.warp = (self._wobble(), self._wobble())
        self.coarse = self.smooth_noise(9.0)
        self.lumps = self.smooth_noise(4.5)
        self.fine = self.smooth_noise(2.0)

    def _wobble(self) -> Array:
        return np.asarray(
            2.2 * self.smooth_noise(110.0) + 1.6 * self.smooth_noise(40.0), np.float32
        )

    def smooth_noise(self, scale_mm: float) -> Array:
        """Standard normal noise [H, W, D] with structures of about `scale_mm`."""
        shape = self.volume.shape
        size = [
            max(3, min(n, round(n * s / scale_mm) + 1))
            for n, s in zip(shape, self.spacing, strict=True)
        ]
        seed = torch.from_numpy(self.rng.standard_normal(size).astype(np.float32))
        field = functional.interpolate(
            seed[None, None], size=shape, mode="trilinear", align_corners=True
        )[0, 0]
        return np.asarray((field / field.std()).numpy(), np.float32)

    def box(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, slice, slice] | None:
        """The voxels between two corners (x, y, z) in mm; None when outside the volume."""
        found = []
        for axis, lo, hi in (
            (self.y, low[1], high[1]),
            (self.x, low[0], high[0]),
            (self.z, low[2], high[2]),
        ):
            inside = np.flatnonzero((axis.ravel() >= lo) & (axis.ravel() <= hi))
            if not inside.size:
                return None
            found.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return found[0], found[1], found[2]

    def thicken(self, count: int) -> None:
        """Average every `count` thin slices into one thick slice, as a scanner does."""
        rows, columns, slices = self.volume.shape
        self.volume = self.volume.reshape(rows, columns, slices // count, count).mean(-1)
        self.z = self.z.reshape(1, 1, -1, count).mean(-1)
        self.spacing = (self.spacing[0], self.spacing[1], self.spacing[2] * count)

    def paint(
        self,
        distance: Distance,
        hu: float | Array,
        low: Sequence[float] = (-1e4, -1e4, -1e4),
        high: Sequence[float] = (1e4, 1e4, 1e4),
        edge: float | None = None,
        warped: bool = True,
    ) -> None:
        """Blend `hu` in where `distance` is negative, over an edge of about one pixel.

        Args:
            hu: One value, or a field on the whole grid [H, W, D].
            low, high: Corners (x, y, z) in mm that bound the solid.
            edge: Width of the transition in mm; default one pixel.
            warped: Follow the soft-tissue displacement.
        """
        box = self.box(low, high)
        if box is None:
            return
        rows, columns, slices = box
        x, y, z = self.x[:, columns], self.y[rows], self.z[:, :, slices]
        if warped:
            x, y = x + self.warp[0][box], y + self.warp[1][box]
        width = edge or max(self.spacing[0], 1.0)
        share = np.clip(0.5 - distance(x, y, z) / width, 0.0, 1.0)
        value = hu[box] if isinstance(hu, np.ndarray) else np.float32(hu)
        part = self.volume[box]
        part += share * (value - part)


def ellipsoid(centre: Sequence[float], radii: Sequence[float]) -> Distance:
    """Approximate signed distance to an ellipsoid."""
    smallest = float(min(radii))

    def distance(x: Array, y: Array, z: Array) -> Array:
        radius = np.sqrt(
            ((x - centre[0]) / radii[0]) ** 2
            + ((y - centre[1]) / radii[1]) ** 2
            + ((z - centre[2]) / radii[2]) ** 2
        )
        return (radius - 1) * smallest

    return distance


def capsule(start: Sequence[float], end: Sequence[float], radius: float) -> Distance:
    """Signed distance to a rod with round ends."""
    a = np.asarray(start, np.float32)
    along = np.asarray(end, np.float32) - a
    length2 = float(along @ along) or 1.0

    def distance(x: Array, y: Array, z: Array) -> Array:
        dx, dy, dz = x - a[0], y - a[1], z - a[2]
        t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / length2, 0, 1)
        return np.sqrt(
            (dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dz - t * along[2]) ** 2
        ) - np.float32(radius)

    return distance


def paint_rod(
    canvas: Canvas,
    points: Sequence[Sequence[float]],
    radius: float | Sequence[float],
    hu: float | Array,
    warped: bool = True,
    edge: float | None = None,
    within: Distance | None = None,
) -> None:
    """Paint a tube along `points` (x, y, z in mm), one capsule a segment.

    Args:
        within: Only where this distance is negative too.
    """
    radii = [radius] * len(points) if isinstance(radius, int | float) else list(radius)
    margin = 12.0 if warped else 2.0
    for start, end, r in zip(points[:-1], points[1:], radii[:-1], strict=True):
        low = np.minimum(start, end) - r - margin
        high = np.maximum(start, end) + r + margin
        canvas.paint(both(capsule(start, end, r), within), hu, low, high, edge, warped)


def both(first: Distance, second: Distance | None) -> Distance:
    """Where both distances are negative; `second` None: the first alone."""
    if second is None:
        return first
    return lambda x, y, z: np.maximum(first(x, y, z), second(x, y, z))
