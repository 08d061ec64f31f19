"""Colon and small bowel of the lumbar phantom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import expit

from pipelines.phantoms.lumbar_abdomen import Habitus, cavity
from pipelines.phantoms.lumbar_canvas import Array, Canvas, paint_rod
from pipelines.phantoms.lumbar_spine import Vertebra


def paint_bowel(canvas: Canvas, spine: Sequence[Vertebra], habitus: Habitus) -> None:
    """Colon with stool and gas, loops of small bowel, mesenteric vessels."""
    rng = canvas.rng
    a = habitus.half_width - cavity(habitus)[0]
    f = habitus.half_depth - cavity(habitus)[1]
    level = {v.name: v.centre for v in spine}
    z_low, z_high = -70.0, float(level["L1"][2]) + 5
    y_min = -f + 12

    def free(p: Array) -> bool:
        """Inside the belly's lining and in front of the spine and the vessels."""
        lining = tuple(s + 14 for s in cavity(habitus))
        x, y, z = (np.asarray(c, np.float32) for c in p)
        limit = float(level["L3"][1]) - 42 + 0.35 * abs(float(p[0]))
        return bool(habitus.outline(x, y, z, lining) < 0) and float(p[1]) < limit

    for _ in range(230):
        p = np.array(
            [rng.uniform(-0.7, 0.7) * a, rng.uniform(y_min, 20), rng.uniform(z_low, z_high)]
        )
        heading = rng.normal(0, 1, 3)
        run = []
        for _ in range(rng.integers(2, 6)):
            if not free(p):
                break
            run.append(p.copy())
            heading = heading + rng.normal(0, 0.7, 3)
            p = p + heading / np.linalg.norm(heading) * 15
        if len(run) < 2:
            continue
        radius = rng.uniform(9, 15)
        content = rng.uniform(12, 40)
        paint_rod(canvas, run, radius, 44.0)
        paint_rod(canvas, run, radius - 2.0, (content + 7 * canvas.coarse).astype(np.float32))
        if rng.random() < 0.22:
            paint_rod(canvas, [run[0] - [0, 3, 0], run[1] - [0, 3, 0]], radius - 4.5, -850.0)
    for _ in range(50):
        p = np.array(
            [rng.uniform(-0.45, 0.45) * a, rng.uniform(y_min, 0), rng.uniform(z_low, z_high)]
        )
        if free(p):
            paint_rod(canvas, [p, p + rng.normal(0, 9, 3)], rng.uniform(1.3, 2.6), 38.0)
    clumps = canvas.lumps + 0.7 * canvas.coarse
    stool = (30 + 20 * canvas.coarse - 650 * expit((clumps - 0.95) * 9)).astype(np.float32)
    transverse = float(level["L3"][2]) + rng.uniform(-25, 25)
    path = [
        (-a * 0.70, f * 0.05, -40.0),
        (-a * 0.80, f * 0.22, 40.0),
        (-a * 0.74, f * 0.05, transverse + 30),
        (-a * 0.45, -f * 0.66, transverse),
        (0.0, -f * 0.74, transverse - 12),
        (a * 0.5, -f * 0.62, transverse + 20),
        (a * 0.78, f * 0.1, float(level["L1"][2])),
        (a * 0.82, f * 0.26, 60.0),
        (a * 0.76, f * 0.12, 0.0),
        (a * 0.62, -f * 0.1, -60.0),
        (a * 0.3, f * 0.2, -90.0),
    ]
    points, radii = [], []
    for start, end in pairwise(path):
        for t in np.linspace(0, 1, 6, endpoint=False):
            points.append(np.asarray(start) * (1 - t) + np.asarray(end) * t)
            radii.append(rng.uniform(14, 24) * (0.8 if points[-1][0] > a * 0.6 else 1.0))
    wall = [r + 2.2 for r in radii]
    paint_rod(canvas, points, wall, 46.0)
    paint_rod(canvas, points, radii, stool)
    for index in range(len(points) - 1):  # gas rises to the front
        if rng.random() < 0.45:
            r = radii[index] * 0.66
            lift = np.array([0, -radii[index] * 0.3, 0])
            paint_rod(canvas, [points[index] + lift, points[index + 1] + lift], r, -960.0)
