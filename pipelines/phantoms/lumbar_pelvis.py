"""Sacrum, ribs and iliac wings of the lumbar phantom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.phantoms.lumbar_canvas import Array, Canvas, Distance, both, capsule, paint_rod
from pipelines.phantoms.lumbar_spine import Vertebra


def paint_sacrum(canvas: Canvas, s1: Vertebra, cortex_hu: float) -> None:
    """S1 with its wings and the plate of S2 to S5 curving to the back and down."""
    trabecular = s1.trabecular_hu
    chain = [s1.point(0, 2, 0)]
    tilt, length = s1.tilt, 24.0
    for turn in (0.02, -0.22, -0.42, -0.5):
        tilt += turn
        step = np.array([0, np.sin(tilt), -np.cos(tilt)], np.float32) * length
        chain.append(chain[-1] + step)
        length -= 2.0
    widths = (42.0, 40.0, 32.0, 22.0, 12.0)
    depths = (12.0, 11.0, 9.0, 8.0, 6.0)
    for hu, shrink in ((cortex_hu * 0.75, 0.0), (trabecular * 0.6 - 5, 2.4)):
        for index in range(len(chain)):
            nearby = chain[min(index + 1, len(chain) - 1)]
            for side in np.linspace(-1, 1, 7):
                offset = np.array([side * (widths[index] - depths[index]), 0, 0], np.float32)
                lean = np.array(
                    [0, 10.0 * abs(side) if index < 2 else 0, -4 * abs(side)], np.float32
                )
                paint_rod(
                    canvas,
                    [chain[index] + offset + lean, nearby + offset * 0.9 + lean],
                    depths[index] - shrink,
                    hu,
                    warped=False,
                )
    through = np.array([0, 12, 0], np.float32)
    for side in (-1, 1):  # sacral foramina and the crest behind
        for index in (1, 2, 3):
            hole = chain[index] + np.array([side * (20 - 3 * index), 0, 6], np.float32)
            paint_rod(canvas, [hole - through, hole + through], 4.0, -30.0, warped=False)
    for index in range(4):
        crest = [chain[index] + [0, 24 - 4 * index, 0], chain[index + 1] + [0, 20 - 4 * index, 0]]
        canal = [chain[index] + [0, 15 - 3 * index, 2], chain[index + 1] + [0, 12 - 3 * index, 2]]
        paint_rod(canvas, crest, 7.0 - index, cortex_hu * 0.6, warped=False)
        paint_rod(canvas, canal, 6.0 - index, 5.0, warped=False)


def paint_rib(
    canvas: Canvas,
    vertebra: Vertebra,
    radius_x: float,
    radius_y: float,
    share: float,
    cortex_hu: float,
) -> None:
    """Both ribs of a thoracic vertebra, along the chest wall, falling towards the front."""
    for side in (-1, 1):
        points = [vertebra.point(side * 16, vertebra.half_depth + 2, 6)]
        for angle in np.linspace(62, 62 - 150 * share, max(4, int(16 * share) + 2)):
            a = np.deg2rad(angle)
            fall = 0.42 * (62 - angle) + 8
            points.append(
                np.array(
                    [side * radius_x * np.cos(a), radius_y * np.sin(a), points[0][2] - fall],
                    np.float32,
                )
            )
        paint_rod(canvas, points, 4.6, cortex_hu * 0.7, warped=False)
        paint_rod(canvas, points, 2.5, 110.0, warped=False)


def paint_ilium(
    canvas: Canvas,
    crest_z: float,
    sacrum_y: float,
    half_width: float,
    cortex_hu: float,
    within: Distance,
) -> None:
    """The iliac wings from the crest down, as curved plates between iliacus and glutei.

    Args:
        within: Where muscle may be (inside the subcutaneous fat).
    """
    muscle = (50 + 8 * canvas.coarse + 5 * canvas.fine).astype(np.float32)
    z = canvas.z.ravel()
    for level in z[(z < crest_z) & (z > crest_z - 125)]:
        depth = float((crest_z - level) / 110)
        spread = min(1.0, (depth / 0.35) ** 0.6)
        t = np.linspace(0.45 - 0.45 * spread, 0.45 + 0.55 * spread, 9)
        # From the sacro-iliac joint (t = 0) over the lateral bulge to the front spine (t = 1).
        p0 = np.array([50 + 6 * depth, sacrum_y + 22 - 6 * depth])
        p1 = np.array([half_width * 0.74 - 14 * depth, sacrum_y - 4])
        p2 = np.array([half_width * 0.88 - 22 * depth, sacrum_y - 80 + 10 * depth])
        curve = (
            ((1 - t) ** 2)[:, None] * p0 + (2 * t * (1 - t))[:, None] * p1 + (t**2)[:, None] * p2
        )
        radius = 3.6 + 3.4 * depth + 2.8 * np.abs(np.linspace(-1, 1, 9)) ** 3
        flesh = np.full(9, 9 + 14 * min(1.0, 2.5 * depth))
        for side in (-1, 1):
            line = [(side * x, y, level) for x, y in curve]
            outer = [
                (side * (x + 0.6 * f), y + 0.4 * f, level)
                for (x, y), f in zip(curve, flesh, strict=True)
            ]
            _paint_plate(canvas, outer, flesh, muscle, within)
            _paint_plate(canvas, line, radius + 7, muscle, within)
            _paint_plate(canvas, line, radius, cortex_hu * 0.8, None)
            _paint_plate(canvas, line, radius - 2.3, 70.0, None)


def _paint_plate(
    canvas: Canvas,
    line: Sequence[tuple[float, float, float]],
    radius: Array,
    hu: float | Array,
    within: Distance | None,
) -> None:
    """A chain of rods in one slice."""
    half = canvas.spacing[2] / 2
    for start, end, r in zip(line[:-1], line[1:], radius, strict=False):
        if r <= 0.5:
            continue
        low = np.minimum(start, end) - r - 2
        high = np.maximum(start, end) + r + 2
        low[2], high[2] = start[2] - half, start[2] + half
        canvas.paint(both(capsule(start, end, float(r)), within), hu, low, high, warped=False)
