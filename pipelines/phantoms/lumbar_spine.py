"""The bones of the lumbar phantom: vertebrae, discs, sacrum, ribs, iliac wings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.phantoms.lumbar_canvas import Array, Canvas, paint_rod

LEVELS = ("S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8")
"""From the sacrum upwards; a phantom's label mask holds index + 1."""

# Half-width, half-depth, height in mm and forward tilt of the axis in degrees. Dimensions near
# the means of Panjabi et al., Spine 1992;17:299-306 (lumbar) and 1991;16:888-901 (thoracic).
_SHAPE: Mapping[str, tuple[float, float, float, float]] = {
    "S1": (26.0, 16.5, 27.0, 44.0),
    "L5": (25.5, 17.5, 26.0, 24.0),
    "L4": (25.0, 17.3, 27.0, 6.0),
    "L3": (24.0, 17.2, 27.5, -7.0),
    "L2": (23.0, 17.0, 27.5, -14.0),
    "L1": (22.0, 16.5, 27.0, -17.0),
    "T12": (21.0, 16.0, 26.0, -15.0),
    "T11": (19.5, 15.5, 24.5, -11.0),
    "T10": (17.5, 15.0, 23.5, -6.0),
    "T9": (16.5, 14.5, 22.5, -1.0),
    "T8": (15.5, 14.0, 21.5, 4.0),
}
_DISC = (10.0, 11.0, 10.5, 9.5, 8.5, 7.5, 6.0, 5.0, 4.5, 4.5)


@dataclass(frozen=True)
class Vertebra:
    """One body: where it is, its axes, its size, its trabecular HU.

    Attributes:
        centre: (x, y, z) in mm.
        tilt: Forward lean of the axis, radians; `roll`: lean to the side.
        half_width, half_depth, height: mm.
        wedge: Share of its height that the front has lost (a compression fracture).
    """

    name: str
    centre: Array
    tilt: float
    roll: float
    half_width: float
    half_depth: float
    height: float
    trabecular_hu: float
    wedge: float = 0.0

    def local(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Coordinates along width, depth (to the back) and axis (to the head), mm."""
        dx, dy, dz = x - self.centre[0], y - self.centre[1], z - self.centre[2]
        c, s = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        v, w = c * dy + s * dz, -s * dy + c * dz
        cr, sr = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        return cr * dx - sr * w, v, sr * dx + cr * w

    def point(self, u: float, v: float, w: float) -> Array:
        """From local to phantom coordinates."""
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        dx, w1 = cr * u + sr * w, -sr * u + cr * w
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return self.centre + np.array([dx, c * v - s * w1, s * v + c * w1], np.float32)

    def axis(self) -> Array:
        return self.point(0, 0, 1) - self.centre

    def body_distance(self, x: Array, y: Array, z: Array) -> Array:
        """Signed distance in mm to the body's outer surface (kidney-shaped, with a waist)."""
        u, v, w = self.local(x, y, z)
        half = np.float32(self.height / 2)
        waist = 1.0 - 0.09 * np.clip(1 - (w / half) ** 2, 0, 1)
        a, b = self.half_width * waist, self.half_depth * waist
        # The back of the body is flat to hollow where the canal lies.
        v = np.where(v > 0, v * (1 + 0.16 * np.exp(-((u / 13) ** 2))), v)
        radius = (np.abs(u / a) ** 2.4 + np.abs(v / b) ** 2.4) ** (1 / 2.4)
        side = (radius - 1) * (self.half_depth * 0.98)
        hollow = 1.3 * np.clip(1 - radius**2, 0, 1)
        lost = self.wedge * self.height * np.clip(0.5 - v / (2 * self.half_depth), 0, 1)
        top = w - (half - hollow - lost)
        bottom = -w - (half - hollow)
        ends = np.maximum(top, bottom)
        return np.maximum(side, ends) + 0.5 * np.clip(np.minimum(side, ends) + 2, 0, 2) - 0.5


def build_spine(
    rng: np.random.Generator,
    trabecular_hu: Mapping[str, float],
    scale: float,
    lordosis: float,
    s1: Sequence[float],
    scoliosis_deg: float,
    wedge: Mapping[str, float],
    disc_scale: float = 1.0,
) -> list[Vertebra]:
    """Stack the vertebrae on S1 along the lordotic curve, sacrum first."""
    spine: list[Vertebra] = []
    centre = np.asarray(s1, np.float32)
    for index, name in enumerate(LEVELS):
        half_width, half_depth, height, tilt = _SHAPE[name]
        jitter = rng.normal(1, 0.025, 3)
        roll = np.deg2rad(scoliosis_deg) * np.sin(index / len(LEVELS) * 2 * np.pi)
        vertebra = Vertebra(
            name=name,
            centre=centre,
            tilt=float(np.deg2rad(tilt * lordosis + rng.normal(0, 1.2))),
            roll=float(roll),
            half_width=half_width * scale * jitter[0],
            half_depth=half_depth * scale * jitter[1],
            height=height * scale * jitter[2],
            trabecular_hu=trabecular_hu[name],
            wedge=wedge.get(name, 0.0),
        )
        if spine:
            below = spine[-1]
            gap = _DISC[index - 1] * scale * disc_scale * rng.normal(1, 0.06)
            middle = below.axis() + vertebra.axis()
            centre = (
                below.point(0, 0, below.height / 2)
                + middle / np.linalg.norm(middle) * gap
                + vertebra.axis() * vertebra.height / 2
            )
            vertebra = Vertebra(**{**vertebra.__dict__, "centre": centre.astype(np.float32)})
        spine.append(vertebra)
    return spine


def _around(points: Sequence[Array], margin: float) -> tuple[Array, Array]:
    stacked = np.stack(points)
    return stacked.min(0) - margin, stacked.max(0) + margin


def paint_canal(canvas: Canvas, spine: Sequence[Vertebra]) -> None:
    """Epidural fat and the thecal sac behind the bodies."""
    fat, sac = [], []
    for vertebra in spine:
        for w in (-0.35, 0.35):
            back = vertebra.half_depth + 8.5
            fat.append(vertebra.point(0, back + 0.5, w * vertebra.height))
            sac.append(vertebra.point(0, back, w * vertebra.height))
    paint_rod(canvas, fat, 10.0, -70.0, warped=False)
    paint_rod(canvas, sac, 7.5, 18.0, warped=False)


def paint_disc(canvas: Canvas, below: Vertebra, above: Vertebra) -> None:
    """The disc between two bodies, slightly bulging."""
    bottom = below.point(0, 0, below.height / 2 - 2)
    top = above.point(0, 0, -above.height / 2 + 2)
    axis = top - bottom
    length = float(np.linalg.norm(axis))
    tilt = (below.tilt + above.tilt) / 2
    disc = Vertebra(
        "disc",
        (bottom + top) / 2,
        tilt,
        (below.roll + above.roll) / 2,
        (below.half_width + above.half_width) / 2 * 1.01,
        (below.half_depth + above.half_depth) / 2 * 1.01,
        max(length + 3.0, 3.0),
        0.0,
    )
    low, high = _around([bottom, top], below.half_width + 6)
    canvas.paint(disc.body_distance, 78.0 + 6.0 * canvas.coarse, low, high, edge=2.0, warped=False)


def paint_vertebra(canvas: Canvas, vertebra: Vertebra, cortex_hu: float, lumbar: bool) -> None:
    """Body with cortex and end plates, pedicles, laminae, facets and processes."""
    trabecular = vertebra.trabecular_hu
    reach = vertebra.half_width + 5
    low, high = _around([vertebra.centre], max(reach, vertebra.height / 2 + 8))
    b, k = vertebra.half_depth, vertebra.half_width / 24
    marrow = (
        trabecular + (0.09 * max(trabecular, 40) + 8) * canvas.fine + 5 * canvas.coarse
    ).astype(np.float32)
    dense = cortex_hu * 0.72
    for side in (-1, 1):
        pedicle = [
            vertebra.point(side * 14 * k, b - 4, 4),
            vertebra.point(side * 15 * k, b + 15, 3),
        ]
        facet = [
            vertebra.point(side * 17 * k, b + 18, 13),
            vertebra.point(side * 15 * k, b + 21, -16),
        ]
        lamina = [vertebra.point(side * 14 * k, b + 18, 0), vertebra.point(side * 2, b + 27, -5)]
        paint_rod(canvas, pedicle, 5.2 * k, dense, warped=False)
        paint_rod(canvas, pedicle, 3.2 * k, trabecular + 90, warped=False)
        paint_rod(canvas, facet, 5.8 * k, dense, warped=False)
        paint_rod(canvas, facet, 3.3 * k, trabecular + 120, warped=False)
        paint_rod(canvas, lamina, 4.2 * k, dense, warped=False)
        paint_rod(canvas, lamina, 2.0 * k, trabecular + 80, warped=False)
        if lumbar:
            process = [
                vertebra.point(side * 17 * k, b + 11, 3),
                vertebra.point(side * 42 * k, b + 15, 4),
            ]
            paint_rod(canvas, process, 3.2 * k, dense * 0.9, warped=False)
            paint_rod(canvas, process, 1.6 * k, trabecular + 40, warped=False)
    length = 46.0 if lumbar else 40.0
    drop = 0.0 if lumbar else -16.0
    for height in (-11.0, -6.0, -1.0):
        spinous = [
            vertebra.point(0, b + 26, height),
            vertebra.point(0, b + length, height - 4 + drop),
        ]
        paint_rod(canvas, spinous, 3.3, dense * 0.85, warped=False)
        paint_rod(canvas, spinous, 1.6, trabecular + 60, warped=False)
    canvas.paint(vertebra.body_distance, cortex_hu, low, high, warped=False)
    canvas.paint(
        lambda x, y, z: vertebra.body_distance(x, y, z) + 1.15, marrow, low, high, warped=False
    )
