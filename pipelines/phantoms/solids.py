"""Metal parts as solids in millimetres, and the length of each X-ray inside them.

Coordinates: x to the patient's inner side, y downwards, z towards the X-ray source; the origin is
where a phantom puts it (of the hip: the femoral head's centre). Rays start in a point source and
meet the plane z = 0, on which the phantom's canvas lies. Each solid only says which points are
inside it; `ray_length` samples every ray through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Point = tuple[float, float, float]
_STEP_MM: Final = 0.5
_FEWEST, _MOST = 16, 160
TITANIUM: Final = 0.085
STEEL: Final = 0.15
"""Attenuation per mm on the scale on which dense bone has 0.012: at the mean energy of a
radiograph titanium weakens about 7 times, steel 12 times as much as cortical bone (NIST XCOM)."""


@dataclass(frozen=True)
class Rod:
    """A round bar from start to end.

    Attributes:
        pitch: Of a thread that winds around it, mm; 0: smooth.
        bore: Diameter of the hole along its axis (cannulated).
        wings: Number of wings of a helical blade instead of a round section; 0: round.
    """

    start: Point
    end: Point
    diameter: float
    end_diameter: float | None = None
    pitch: float = 0.0
    bore: float = 0.0
    wings: int = 0
    attenuation: float = TITANIUM

    def corners(self) -> tuple[Array, float]:
        """Points around which the solid lies, and how far from them it reaches."""
        end = self.diameter if self.end_diameter is None else self.end_diameter
        return np.array([self.start, self.end]), max(self.diameter, end) / 2

    def inside(self, p: Array) -> npt.NDArray[np.bool_]:
        """Which points [..., 3] are metal."""
        a, b = np.array(self.start), np.array(self.end)
        length = max(float(np.linalg.norm(b - a)), 1e-6)
        axis, u, v = frame_of(b - a)
        d = p - a
        along, first, second = d @ axis, d @ u, d @ v
        away = np.hypot(first, second)
        end = self.diameter if self.end_diameter is None else self.end_diameter
        radius = (self.diameter + (end - self.diameter) * along / length) / 2
        if self.pitch or self.wings:
            turn = np.arctan2(second, first)
            if self.wings:
                # the wings twist by a quarter turn over 40 mm
                wave = np.cos(self.wings * (turn - along * np.pi / 80))
                radius = radius * (0.68 + 0.32 * wave)
            else:
                radius = radius * (0.86 + 0.14 * np.cos(2 * np.pi * along / self.pitch - turn))
        found: npt.NDArray[np.bool_] = (
            (along >= 0) & (along <= length) & (away <= radius) & (away >= self.bore / 2)
        )
        return found


@dataclass(frozen=True)
class Plate:
    """A plate whose edge follows a polyline (x, y) at z = `depth`; it is `width` wide along z.

    Attributes:
        holes: Distances along the polyline of round holes through its thickness.
    """

    points: tuple[tuple[float, float], ...]
    width: float
    thickness: float
    depth: float = 0.0
    holes: tuple[float, ...] = ()
    hole_diameter: float = 5.5
    attenuation: float = TITANIUM

    def corners(self) -> tuple[Array, float]:
        sides = (self.depth - self.width / 2, self.depth + self.width / 2)
        return np.array([(x, y, z) for x, y in self.points for z in sides]), self.thickness

    def inside(self, p: Array) -> npt.NDArray[np.bool_]:
        across = p[..., 2] - self.depth
        metal = np.zeros(p.shape[:-1], bool)
        before = 0.0
        for start, end in pairwise(self.points):
            way = np.subtract(end, start)
            length = max(float(np.hypot(*way)), 1e-6)
            d = p[..., :2] - np.array(start)
            along = d @ (way / length)
            off = d - np.clip(along, 0, length)[..., None] * (way / length)
            here = (off**2).sum(-1) <= (self.thickness / 2) ** 2
            for hole in self.holes:
                if -self.hole_diameter < hole - before < length + self.hole_diameter:
                    here &= np.hypot(along - (hole - before), across) > self.hole_diameter / 2
            metal |= here
            before += length
        found: npt.NDArray[np.bool_] = metal & (np.abs(across) <= self.width / 2)
        return found


@dataclass(frozen=True)
class Ball:
    """A ball, or a shell of `wall` mm that is open on the side away from `opening`'s tip."""

    centre: Point
    diameter: float
    wall: float = 0.0
    opening: Point | None = None
    attenuation: float = STEEL

    def corners(self) -> tuple[Array, float]:
        return np.array([self.centre]), self.diameter / 2

    def inside(self, p: Array) -> npt.NDArray[np.bool_]:
        d = p - np.array(self.centre)
        away = np.sqrt((d**2).sum(-1))
        metal: npt.NDArray[np.bool_] = away <= self.diameter / 2
        if self.wall:
            metal &= away >= self.diameter / 2 - self.wall
        if self.opening is not None:
            metal &= d @ np.array(self.opening) >= 0
        return metal


@dataclass(frozen=True)
class Ring:
    """A closed wire around an axis."""

    centre: Point
    axis: Point
    radius: float
    diameter: float
    attenuation: float = STEEL

    def corners(self) -> tuple[Array, float]:
        return np.array([self.centre]), self.radius + self.diameter / 2

    def inside(self, p: Array) -> npt.NDArray[np.bool_]:
        axis, _, _ = frame_of(np.array(self.axis))
        d = p - np.array(self.centre)
        along = d @ axis
        away = np.sqrt(np.clip((d**2).sum(-1) - along**2, 0, None))
        found: npt.NDArray[np.bool_] = np.hypot(along, away - self.radius) <= self.diameter / 2
        return found


Part = Rod | Plate | Ball | Ring


@dataclass(frozen=True)
class Beam:
    """Where the X-rays come from, and how the solids are turned before they are met.

    Attributes:
        turn: 3×3, from the solids' coordinates to the canvas's.
        source: Where the source stands above the plane (x, y), and how high, mm.
    """

    turn: Array
    source: Point = (0.0, 0.0, 1000.0)


def turned(about_x: float, about_y: float, about_z: float) -> Array:
    """Return the rotation by three angles in radians; z first, then y, then x."""
    cx, cy, cz = np.cos([about_x, about_y, about_z])
    sx, sy, sz = np.sin([about_x, about_y, about_z])
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    found: Array = x @ y @ z
    return found


def frame_of(way: Array) -> tuple[Array, Array, Array]:
    """Return three unit vectors at right angles, the first along `way`."""
    axis = np.asarray(way, float) / max(float(np.linalg.norm(way)), 1e-9)
    helper = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    return axis, first, np.cross(axis, first)


def ray_length(part: Part, x: Array, y: Array, beam: Beam) -> Array:
    """Return the millimetres of each ray inside the part.

    Args:
        x, y: [H, W] where each ray meets the plane z = 0, mm.
    """
    corners, reach = part.corners()
    points = corners @ beam.turn.T
    low, high = points.min(0) - reach, points.max(0) + reach
    sx, sy, height = beam.source
    total = np.zeros(x.shape)
    # the shadow on the plane: what lies nearer to the source is enlarged
    shadow = [
        (sx + (px - sx) * height / (height - pz), sy + (py - sy) * height / (height - pz))
        for px in (low[0], high[0])
        for py in (low[1], high[1])
        for pz in (low[2], high[2])
    ]
    left, right = min(p[0] for p in shadow), max(p[0] for p in shadow)
    top, bottom = min(p[1] for p in shadow), max(p[1] for p in shadow)
    near = (y >= top) & (y <= bottom) & (x >= left) & (x <= right)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not rows.size or not columns.size:
        return total
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    px, py = x[box][..., None], y[box][..., None]
    count = int(np.clip((high[2] - low[2]) / _STEP_MM, _FEWEST, _MOST))
    step = (high[2] - low[2]) / count
    z = low[2] + (np.arange(count) + 0.5) * step
    share = z / height
    on_ray = np.stack(
        np.broadcast_arrays(px + (sx - px) * share, py + (sy - py) * share, z), axis=-1
    )
    slant = np.sqrt(1 + ((px - sx) ** 2 + (py - sy) ** 2) / height**2)[..., 0]
    total[box] = part.inside(on_ray @ beam.turn).sum(-1) * step * slant
    return total


def shade(parts: Sequence[Part], x: Array, y: Array, beam: Beam) -> Array:
    """Return the exponent of Beer-Lambert's law of all parts on each ray.

    Parts reach into each other (a screw through a nail): of what overlaps the longer way counts
    whole and the shorter by a third.
    """
    total = np.zeros(x.shape)
    for part in parts:
        here = part.attenuation * ray_length(part, x, y, beam)
        total = np.maximum(total, here) + 0.35 * np.minimum(total, here)
    return total
