"""Drawing bones as smooth outlines in millimetres: what the knee and hip phantoms share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class OutlineCanvas:
    """Draws in millimetres around a centre: x to the patient's inner side, y downwards.

    Args:
        shape: (rows, columns).
        spacing: mm a pixel.
        centre: (row, column) of the origin in mm.
        size: Factor on everything drawn.
        flip: Mirror, so that the inner side is on the image's left.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        spacing: float,
        centre: tuple[float, float],
        size: float,
        *,
        flip: bool,
    ) -> None:
        self.shape = shape
        self._spacing = spacing
        self._centre = centre
        self._scale = size / spacing
        self._sign = -1.0 if flip else 1.0
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        self.y: Array = (rows - centre[0] / spacing) / self._scale
        self.x: Array = (columns - centre[1] / spacing) / self._scale * self._sign

    def area(self, outline: Array) -> Mask:
        """Fill a closed smooth curve through points (x, y)."""
        curve = _smooth(outline)
        columns = self._centre[1] / self._spacing + self._sign * curve[:, 0] * self._scale
        rows = self._centre[0] / self._spacing + curve[:, 1] * self._scale
        picture = Image.new("1", (self.shape[1], self.shape[0]))
        points = list(zip(columns.tolist(), rows.tolist(), strict=True))
        ImageDraw.Draw(picture).polygon(points, fill=1)
        return np.asarray(picture, bool)

    def depth(self, mask: Mask) -> Array:
        """Distance to the edge in mm, inside."""
        found: Array = ndimage.distance_transform_edt(mask) / self._scale
        return found

    def bone(self, mask: Mask, body: float, cortex_mm: float) -> Array:
        """Attenuation of a bone: bulging body, bright shell."""
        depth = self.depth(mask)
        bulge = np.sqrt(np.clip(depth / 16, 0, 1))
        shell = np.exp(-(((depth - cortex_mm / 2) / cortex_mm) ** 2)) * (depth > 0)
        return body * (0.45 * (depth > 0) + 0.55 * bulge) + 0.10 * shell

    def blob(self, centre: tuple[float, float], radii: tuple[float, float]) -> Array:
        """A soft ellipse at (y, x), 1 in its middle."""
        y, x = centre
        r2 = ((self.y - y) / radii[0]) ** 2 + ((self.x - x) / radii[1]) ** 2
        found: Array = np.exp(-r2)
        return found

    def plate(self, mask: Mask, y: float, thickness: float) -> Array:
        """The subchondral plate: the shell of a bone near the joint line."""
        depth = self.depth(mask)
        near = np.exp(-(((self.y - y) / 11) ** 2)) * (np.abs(self.x) < 36)
        found: Array = near * np.exp(-((depth / thickness) ** 2)) * (depth > 0)
        return found

    def to_segment(
        self, start: tuple[float, float], end: tuple[float, float]
    ) -> tuple[Array, Array]:
        """Distance in mm to a segment of points (x, y), infinite beyond its ends; share along."""
        ax, ay = start
        dx, dy = end[0] - ax, end[1] - ay
        length2 = max(dx * dx + dy * dy, 1e-9)
        share = ((self.x - ax) * dx + (self.y - ay) * dy) / length2
        inside = np.clip(share, 0, 1)
        distance = np.hypot(self.x - ax - inside * dx, self.y - ay - inside * dy)
        return distance, inside

    def curve(
        self, points: Sequence[tuple[float, float]], half_width: float, *, soft: bool = True
    ) -> Array:
        """A band along a polyline: 1 on it, falling off softly or at its edge."""
        nearest = np.full(self.shape, np.inf)
        for start, end in itertools.pairwise(points):
            nearest = np.minimum(nearest, self.to_segment(start, end)[0])
        found: Array
        if soft:
            found = np.exp(-((nearest / half_width) ** 2))
        else:
            found = np.clip((half_width - nearest) * self._scale + 0.5, 0, 1)
        return found


def texture(rng: np.random.Generator, shape: tuple[int, int], spacing: float) -> Array:
    """Trabeculae that run mostly along the image's columns."""
    fine = ndimage.gaussian_filter(rng.normal(size=shape), (1.4 / spacing, 0.22 / spacing))
    cross = ndimage.gaussian_filter(rng.normal(size=shape), (0.25 / spacing, 0.9 / spacing))
    coarse = ndimage.gaussian_filter(rng.normal(size=shape), 3.0 / spacing)
    parts = ((0.6, fine), (0.35, cross), (0.5, coarse))
    total: Array = np.sum([weight * part / part.std() for weight, part in parts], axis=0)
    return total


def stamp(image: Array, text: str, spacing: float, *, left: bool) -> None:
    """Burn a lead marker into an upper corner."""
    from matplotlib import font_manager

    size = round(16 / spacing)
    face = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), size)
    picture = Image.new("L", (size, round(size * 1.2)))
    ImageDraw.Draw(picture).text((size * 0.1, 0), text, fill=255, font=face)
    ink = np.asarray(picture, float) / 255
    row, away = round(20 / spacing), round(12 / spacing)
    column = away if left else image.shape[1] - away - size
    view = image[row : row + ink.shape[0], column : column + ink.shape[1]]
    np.maximum(view, ink * 1.02, out=view)


def _smooth(outline: Array, number: int = 720) -> Array:
    closed = np.vstack([outline, outline[:1]])
    step = np.r_[0, np.cumsum(np.hypot(*np.diff(closed, axis=0).T))]
    at = np.linspace(0, step[-1], number, endpoint=False)
    dense = np.column_stack([np.interp(at, step, closed[:, axis]) for axis in (0, 1)])
    smoothed: Array = ndimage.gaussian_filter1d(dense, number / 300, axis=0, mode="wrap")
    return smoothed
