"""The soft parts of the lumbar phantom: outline, fat, muscles, organs, vessels, bowel, table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pipelines.phantoms.lumbar_canvas import Array, Canvas, ellipsoid, paint_rod
from pipelines.phantoms.lumbar_spine import Vertebra


@dataclass(frozen=True)
class Habitus:
    """The patient's build in mm.

    Attributes:
        half_width, half_depth: Of the trunk at the navel.
        fat_side, fat_front, fat_back: Thickness of subcutaneous fat.
        wall: Thickness of the lateral abdominal muscles.
    """

    half_width: float
    half_depth: float
    fat_side: float
    fat_front: float
    fat_back: float
    wall: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Habitus:
        size = rng.uniform(0, 1)
        return cls(
            half_width=148 + 32 * size + rng.normal(0, 4),
            half_depth=104 + 28 * size + rng.normal(0, 3),
            fat_side=8 + 20 * size + rng.uniform(0, 6),
            fat_front=8 + 18 * size + rng.uniform(0, 8),
            fat_back=9 + 14 * size + rng.uniform(0, 8),
            wall=rng.uniform(11, 17),
        )

    def outline(self, x: Array, y: Array, z: Array, shrink: tuple[float, float, float]) -> Array:
        """Distance to the trunk's surface moved inwards by (side, front, back) mm."""
        # Narrow waist, wider hips below (z < 40), slightly narrower chest above.
        waist = 1 - 0.05 * np.exp(-(((z - 90) / 50) ** 2)) + 0.05 * expit((20 - z) / 18)
        a = self.half_width * waist - shrink[0]
        front, back = self.half_depth - shrink[1], self.half_depth * 0.97 - shrink[2]
        b = np.where(y < 0, front, back)
        furrow = 6 * np.exp(-((x / 14) ** 2)) * (y > 0)
        radius = (np.abs(x / a) ** 2.35 + np.abs((y + furrow) / b) ** 2.35) ** (1 / 2.35)
        return (radius - 1) * np.minimum(a, b)


def paint_trunk(canvas: Canvas, habitus: Habitus, table: bool) -> None:
    """Table, skin, subcutaneous fat, muscular wall and the fat of the belly."""
    if table:
        y_table = habitus.half_depth * 0.97 + 9
        bend = lambda x: (x / 260.0) ** 2 * 42  # noqa: E731
        canvas.paint(
            lambda x, y, z: np.abs(y - y_table - 9 + bend(x)) - 9 + 0 * z, -930.0, warped=False
        )
        canvas.paint(
            lambda x, y, z: np.abs(y - y_table + bend(x)) - 1.3 + 0 * z, -30.0, warped=False
        )
    fat = (-104 + 5 * canvas.coarse + 3 * canvas.fine).astype(np.float32)
    muscle = (52 + 9 * canvas.coarse + 5 * canvas.fine).astype(np.float32)
    side, front, back = habitus.fat_side, habitus.fat_front, habitus.fat_back
    canvas.paint(lambda x, y, z: habitus.outline(x, y, z, (0, 0, 0)), -5.0)
    canvas.paint(lambda x, y, z: habitus.outline(x, y, z, (2.0, 2.0, 2.0)), fat)
    canvas.paint(lambda x, y, z: habitus.outline(x, y, z, (side, front, back)), muscle)
    # Fat planes between the three muscles of the flank.
    for depth in (0.36, 0.68):
        offset = depth * habitus.wall
        canvas.paint(
            lambda x, y, z, o=offset: np.maximum(
                np.abs(habitus.outline(x, y, z, (side + o, front + o * 0.4, back + o))) - 0.5,
                (45 - np.abs(x)).astype(np.float32),
            ),
            -60.0,
        )
    inner = (side + habitus.wall, front + habitus.wall * 0.62, back + 20)
    visceral = (-98 + 7 * canvas.coarse + 3 * canvas.fine).astype(np.float32)
    canvas.paint(lambda x, y, z: habitus.outline(x, y, z, inner), visceral)
    # Linea alba
    canvas.paint(
        lambda x, y, z: (
            np.maximum(np.abs(x) - 2.5, np.abs(y + habitus.half_depth - front - 4) - 3) + 0 * z
        ),
        -40.0,
    )


def cavity(habitus: Habitus) -> tuple[float, float, float]:
    """How far the belly's lining lies inside the skin (side, front, back), mm."""
    return (
        habitus.fat_side + habitus.wall,
        habitus.fat_front + habitus.wall * 0.62,
        habitus.fat_back + 20,
    )


def paint_muscles(canvas: Canvas, spine: Sequence[Vertebra], habitus: Habitus) -> None:
    """Paraspinal muscles, psoas, quadratus lumborum, iliacus, glutei."""
    muscle = (50 + 10 * canvas.coarse + 5 * canvas.fine).astype(np.float32)
    streaks = canvas.lumps + 0.6 * canvas.coarse
    streaky = (muscle - 85 * expit((streaks - 1.7) * 6)).astype(np.float32)
    back = habitus.half_depth * 0.97 - habitus.fat_back
    for side in (-1, 1):
        erector, quadratus, psoas, psoas_radius = [], [], [], []
        for v in spine[1:]:
            y_body, z = float(v.centre[1]), float(v.centre[2])
            erector.append((side * 33, min(back - 22, y_body + 50), z))
            if v.name in {"L1", "L2", "L3", "L4"}:
                quadratus.append((side * 66, y_body + 24, z))
            index = {"L5": 21, "L4": 20, "L3": 18, "L2": 14, "L1": 9, "T12": 5}.get(v.name)
            if index:
                psoas.append((side * (v.half_width + index * 0.62), y_body - 2 + index * 0.3, z))
                psoas_radius.append(float(index))
        s1 = spine[0].centre
        erector.insert(0, (side * 26, s1[1] + 42, s1[2]))
        erector.insert(0, (side * 18, s1[1] + 62, s1[2] - 60))
        psoas = [
            (side * 82, s1[1] - 68, -115.0),
            (side * 66, s1[1] - 42, -50.0),
            (side * 54, s1[1] - 24, -5.0),
            *psoas,
        ]
        psoas_radius = [18.0, 20.0, 21.0, *psoas_radius]

        def skin(x: Array, y: Array, z: Array) -> Array:
            return habitus.outline(x, y, z, (0.8 * habitus.fat_side,) * 2 + (habitus.fat_back,))

        for shift, radius in ((0, 24.0), (14, 21.0), (-14, 20.0)):
            run = [(p[0] + side * shift, p[1], p[2]) for p in erector]
            paint_rod(canvas, run, radius, streaky, within=skin)
        paint_rod(canvas, quadratus, 9.5, muscle)
        paint_rod(canvas, [(p[0] + side * 9, p[1] + 2, p[2]) for p in quadratus], 8.0, muscle)
        paint_rod(canvas, psoas, psoas_radius, muscle)
        glutei = [
            (side * 88, s1[1] + 26, 6.0),
            (side * 98, s1[1] + 24, -40.0),
            (side * 100, s1[1] + 14, -120.0),
        ]
        paint_rod(canvas, glutei, [26.0, 34.0, 40.0], streaky, within=skin)
        inner = [(p[0] - side * 26, p[1] + 16, p[2] - 14) for p in glutei]
        paint_rod(canvas, inner, 24.0, streaky, within=skin)
        iliacus = [(side * 88, s1[1] - 18, 8.0), (side * 88, s1[1] - 26, -60.0)]
        paint_rod(canvas, iliacus, [9.0, 14.0], muscle)


def _inside(canvas: Canvas, habitus: Habitus, centre, radii, hu) -> None:  # type: ignore[no-untyped-def]
    """An ellipsoid cut by the lining of the belly."""
    shape = ellipsoid(centre, radii)
    lining = tuple(s + 2 for s in cavity(habitus))
    reach = np.asarray(radii) + 14
    canvas.paint(
        lambda x, y, z: np.maximum(shape(x, y, z), habitus.outline(x, y, z, lining)),
        hu,
        np.asarray(centre) - reach,
        np.asarray(centre) + reach,
    )


def paint_organs(
    canvas: Canvas, spine: Sequence[Vertebra], habitus: Habitus, enhancement_hu: float
) -> None:
    """Liver, spleen, stomach, kidneys, pancreas, gall bladder; lungs' recesses above."""
    rng = canvas.rng
    level = {v.name: v.centre for v in spine}
    a = habitus.half_width - cavity(habitus)[0]
    f = habitus.half_depth - cavity(habitus)[1]
    l1, t11 = level["L1"], level["T11"]
    tissue = lambda mean, rough: (mean + rough * canvas.coarse + 3 * canvas.fine).astype(np.float32)  # noqa: E731
    liver = tissue(58 + 0.4 * enhancement_hu, 3)
    drop = rng.uniform(-15, 15)
    _inside(canvas, habitus, (-a * 0.58, -f * 0.05, t11[2] + drop), (a * 0.7, f * 1.08, 118), liver)
    _inside(canvas, habitus, (-a * 0.10, -f * 0.55, t11[2] + 12), (a * 0.68, f * 0.46, 62), liver)
    for _ in range(14):  # hepatic vessels, darker than the liver without contrast
        start = np.array(
            [-a * rng.uniform(0.3, 0.8), rng.uniform(-0.5, 0.4) * f, t11[2] + rng.uniform(-40, 40)]
        )
        paint_rod(
            canvas, [start, start + rng.normal(0, 16, 3)], rng.uniform(2, 4), 44.0 + enhancement_hu
        )
    _inside(
        canvas,
        habitus,
        (a * 0.80, f * 0.45, t11[2] + 8),
        (a * 0.26, f * 0.46, 48),
        tissue(50 + 0.5 * enhancement_hu, 2),
    )
    stomach = (a * 0.45, -f * 0.42, t11[2] + 6)
    _inside(canvas, habitus, stomach, (a * 0.36, f * 0.42, 42), 42.0)
    _inside(canvas, habitus, stomach, (a * 0.33, f * 0.38, 39), tissue(20, 12))
    gas_y = stomach[1] - f * rng.uniform(0.0, 0.18)
    gas = ellipsoid(stomach, (a * 0.32, f * 0.37, 38))
    canvas.paint(
        lambda x, y, z: np.maximum(gas(x, y, z), y - gas_y),
        -960.0,
        np.asarray(stomach) - 60,
        np.asarray(stomach) + 60,
    )
    _inside(canvas, habitus, (-a * 0.42, -f * 0.45, l1[2] - 6), (15, 18, 28), tissue(9, 2))
    kidney = tissue(33 + enhancement_hu, 2)
    for side, fall in ((-1, -10.0), (1, 4.0)):
        y = float(level["L2"][1]) + 6
        c = np.array([side * rng.uniform(70, 78), y, level["L2"][2] + 14 + fall])
        canvas.paint(
            ellipsoid(c, (40, 37, 66)), (-106 + 4 * canvas.fine).astype(np.float32), c - 84, c + 84
        )
        low, high = c - 70, c + 70
        canvas.paint(ellipsoid(c, (28, 25, 54)), kidney, low, high)
        hilum = c + np.array([-side * 15, -8, 0])
        canvas.paint(
            ellipsoid(hilum, (17, 9, 27)), (-80 + 30 * canvas.coarse).astype(np.float32), low, high
        )
        paint_rod(
            canvas, [hilum, hilum + np.array([-side * 26, -6, 4])], 4.0, 38.0 + enhancement_hu
        )
    pancreas = [
        (-36, -f * 0.14, l1[2] - 14),
        (-8, -f * 0.26, l1[2] - 2),
        (30, -f * 0.16, l1[2] + 8),
        (a * 0.55, f * 0.16, l1[2] + 20),
    ]
    paint_rod(canvas, pancreas, [13.0, 10.0, 10.0, 9.0], tissue(42 + 0.4 * enhancement_hu, 10))
    # The lungs' lower ends, behind the domes of the diaphragm.
    lining = tuple(s + 1 for s in cavity(habitus))
    dome = float(level["T10"][2]) + rng.uniform(-6, 10)

    def lung(x: Array, y: Array, z: Array) -> Array:
        near = habitus.outline(x, y, z, lining)
        floor = dome - 0.55 * np.maximum(y, -10) + 1.6 * np.maximum(near + 26, -40) * -1
        mid = 34 - np.abs(x)
        return np.maximum(np.maximum(near, (floor - z) * 0.5), mid)

    canvas.paint(lung, (-860 + 25 * canvas.fine).astype(np.float32), (-1e4, -1e4, dome - 70))


def paint_vessels(
    canvas: Canvas, spine: Sequence[Vertebra], enhancement_hu: float, calcified: float
) -> None:
    """Aorta with its bifurcation and calcified wall, inferior vena cava, iliac vessels."""
    rng = canvas.rng
    blood = 42.0 + 1.6 * enhancement_hu
    aorta, cava = [], []
    for v in spine[2:]:
        front = v.point(0, -v.half_depth, 0)
        aorta.append((front[0] + 9, front[1] - 11 - (0 if v.name.startswith("L") else 2), front[2]))
        cava.append((front[0] - 17, front[1] - 8, front[2]))
    s1 = spine[0].centre
    for side in (-1, 1):
        run = [
            aorta[0],
            (side * 26, aorta[0][1] + 4, s1[2] + 22),
            (side * 44, s1[1] - 42, s1[2] - 30),
            (side * 70, s1[1] - 78, s1[2] - 110),
        ]
        paint_rod(canvas, run, [7.0, 6.0, 5.5, 5.0], blood)
        paint_rod(
            canvas, [(p[0] + side * 2, p[1] + 11, p[2]) for p in run], 6.5, 40.0 + enhancement_hu
        )
    paint_rod(canvas, cava, 10.0, 40.0 + enhancement_hu)
    paint_rod(canvas, [(p[0] - 6, p[1], p[2]) for p in cava], 8.0, 40.0 + enhancement_hu)
    paint_rod(canvas, aorta, [8.5] * 3 + [10.0] * (len(aorta) - 3), blood)
    for _ in range(rng.poisson(calcified)):
        p = aorta[rng.integers(0, min(5, len(aorta)))]
        angle = rng.uniform(0, 2 * np.pi)
        spot = np.array(
            [p[0] + 9 * np.cos(angle), p[1] + 9 * np.sin(angle), p[2] + rng.uniform(-14, 14)]
        )
        paint_rod(canvas, [spot, spot + rng.normal(0, 3, 3)], 1.3, 700.0)
