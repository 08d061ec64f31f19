"""Metal in a hip that is no device of the catalogue: kinds to learn, and kinds kept back.

`OTHER_METAL` is what training shows under "not in the catalogue"; `UNSEEN_METAL` are kinds that
no training sees, to measure how an unknown device is taken (open set).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from pipelines.phantoms.hip_devices import (
    DEVICES,
    Femur,
    Maker,
    along_neck,
    between,
    to_lateral,
)
from pipelines.phantoms.solids import STEEL, TITANIUM, Ball, Part, Plate, Ring, Rod


def stem(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """A hip prosthesis: head and stem, with or without a cup and its screw."""
    x, head = femur.shaft_x, rng.uniform(28, 50)
    parts: list[Part] = [
        Ball((0, 0, 0), head),
        Rod((-3, 3, 0), (x + 6, 36, 0), 13, 19),
        Rod((x + 5, 36, 0), (x, rng.uniform(120, 165), 0), 21, 9),
    ]
    if rng.random() < 0.6:
        parts.append(Ball((0, 0, 0), max(48.0, head + 8), wall=4, opening=(0.6, -0.8, 0)))
        if rng.random() < 0.5:
            parts.append(Rod((12, -22, 0), (30, -50, 0), 6.0, pitch=2.5))
    return parts


def wires(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Cerclage rings, and pins through the trochanter."""
    x = femur.shaft_x
    parts: list[Part] = [
        Ring(
            (x, 70 + 18 * n + rng.normal(0, 3), 0.0),
            (rng.normal(0, 0.15), 1.0, rng.normal(0, 0.25)),
            rng.uniform(15.5, 18),
            rng.uniform(1.5, 2.2),
        )
        for n in range(int(rng.integers(1, 4)))
    ]
    if rng.random() < 0.6:
        tip = femur.trochanter
        parts += [
            Rod((tip[0] + d, tip[1] - 8, 2.0), (x + 12 + d, 66, -2.0), 2.0, attenuation=STEEL)
            for d in (0.0, 6.0)
        ]
    return parts


def single_screw(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """One long screw across, of no kind in the catalogue."""
    y, x = rng.uniform(20, 60), femur.lateral_x
    end = (x + 62, y - 45 + rng.normal(0, 12), rng.normal(0, 4))
    return [Rod((x - 4, y, 0.0), end, rng.uniform(3.5, 6.5), pitch=1.75, attenuation=STEEL)]


def small_metal(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Staples, clips, beads and fragments."""
    parts: list[Part] = []
    for _ in range(int(rng.integers(3, 12))):
        x, y, z = rng.uniform(-80, 50), rng.uniform(-50, 120), rng.uniform(-30, 60)
        if rng.random() < 0.3:
            parts.append(Ball((x, y, z), rng.uniform(3, 6)))
        else:
            way = rng.normal(0, 1, 3)
            way *= rng.uniform(8, 16) / np.linalg.norm(way)
            end = (x + way[0], y + way[1], z + way[2])
            parts.append(Rod((x, y, z), end, rng.uniform(1.8, 3), attenuation=STEEL))
    return parts


def assembly(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Bars and plates as no maker would join them."""
    parts: list[Part] = []
    while not parts or rng.random() < 0.65:
        metal = STEEL if rng.random() < 0.5 else TITANIUM
        kind = rng.random()
        if kind < 0.45:
            x, y = femur.shaft_x + rng.normal(0, 20), rng.uniform(-10, 120)
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(25, 170)
            end = (x + length * np.cos(angle), y + length * np.sin(angle), rng.normal(0, 8))
            pitch = rng.uniform(1.5, 3.5) if rng.random() < 0.5 else 0.0
            parts.append(
                Rod((x, y, 0.0), end, rng.uniform(2.5, 14), pitch=pitch, attenuation=metal)
            )
        elif kind < 0.8:
            x, y = rng.uniform(-75, 60), rng.uniform(-110, 60)
            points = [(x, y)]
            angle = rng.uniform(0, np.pi)
            for _ in range(int(rng.integers(2, 6))):
                angle += rng.normal(0, 0.25)
                step = rng.uniform(15, 35)
                points.append(
                    (points[-1][0] + step * np.cos(angle), points[-1][1] + step * np.sin(angle))
                )
            parts.append(
                Plate(tuple(points), rng.uniform(8, 20), rng.uniform(3, 7), attenuation=metal)
            )
            for at in points[: int(rng.integers(0, len(points) + 1))]:
                way = rng.normal(0, 1, 2)
                way *= rng.uniform(20, 55) / np.hypot(*way)
                end = (at[0] + way[0], at[1] + way[1], rng.normal(0, 6))
                parts.append(Rod((*at, 0.0), end, rng.uniform(3, 6), pitch=1.75, attenuation=metal))
        else:
            centre = (femur.shaft_x + rng.normal(0, 8), rng.uniform(40, 140), 0.0)
            parts.append(Ring(centre, (0.1, 1.0, 0.2), rng.uniform(15, 20), rng.uniform(1.6, 3)))
    return parts


def mutant(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """A device of the catalogue gone wrong, far enough to be none: thin, headless or askew."""
    parts = DEVICES[str(rng.choice(list(DEVICES)))](femur, rng)
    in_neck = [isinstance(p, Rod) and max(p.start[0], p.end[0]) > -22 for p in parts]
    rest = [p for p, neck in zip(parts, in_neck, strict=True) if not neck]
    way = rng.random()
    if way < 0.35 and len(rest) > 1:
        return rest
    if way < 0.65:
        thin = rng.uniform(0.28, 0.45)
        return [
            replace(p, diameter=p.diameter * thin, end_diameter=None, bore=0.0)
            if isinstance(p, Rod)
            else replace(p, width=p.width * thin, thickness=p.thickness * thin, holes=())
            if isinstance(p, Plate)
            else p
            for p in parts
        ]
    angle = float(rng.choice([-1, 1]) * np.radians(rng.uniform(20, 40)))
    return [
        _swung(p, angle) if neck and isinstance(p, Rod) else p
        for p, neck in zip(parts, in_neck, strict=True)
    ]


def _swung(rod: Rod, angle: float) -> Rod:
    """Turn a rod in the plane of the film about the point where the neck's axis leaves the bone."""
    pivot = np.array([-62.0, 44.0])
    cos, sin = np.cos(angle), np.sin(angle)
    ends = []
    for x, y, z in (rod.start, rod.end):
        dx, dy = x - pivot[0], y - pivot[1]
        ends.append((pivot[0] + cos * dx - sin * dy, pivot[1] + sin * dx + cos * dy, z))
    return replace(rod, start=ends[0], end=ends[1])


def blade_plate(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Angled blade plate: a flat blade in the head, bent into a side plate with screws."""
    tip, outer = along_neck(femur, rng.uniform(0, 5), -8, to_lateral(femur) + 2)
    x = femur.lateral_x - 3
    bottom = outer[1] + 17.0 * int(rng.integers(4, 7))
    edge = ((tip[0], tip[1]), (outer[0], outer[1]), (x, outer[1] + 8), (x, bottom))
    screws = np.arange(outer[1] + 20, bottom - 6, 17.0)
    return [
        Plate(edge, 15.0, 5.0, attenuation=STEEL),
        *(
            Rod((x - 2, float(y), 0), (x + 36, float(y), 0), 4.5, pitch=1.75, attenuation=STEEL)
            for y in screws
        ),
    ]


def elastic_nails(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Two or three thin curved nails that fan out in the neck."""
    parts: list[Part] = []
    for n in range(int(rng.integers(2, 4))):
        bow = (-7.0, 7.0, 1.0)[n]
        head, _ = along_neck(femur, (-7.0, 7.0, 0.0)[n], rng.uniform(-8, 2), 10)
        x = femur.shaft_x + bow
        bend = (x + rng.normal(0, 1), 65.0, rng.normal(0, 3))
        below = (femur.shaft_x - 0.6 * bow, 150.0, 0.0)
        for start, end in ((head, bend), (bend, below), (below, (femur.shaft_x, 290.0, 0.0))):
            parts.append(Rod(start, end, 3.8, attenuation=STEEL))
    return parts


def external_fixator(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Pins from outside the skin and the bar that joins them."""
    bar = femur.lateral_x - rng.uniform(28, 40)
    places = [30.0, 55.0, *(95.0 + 28 * n for n in range(int(rng.integers(2, 4))))]
    parts: list[Part] = [
        Rod((bar, 10.0, 12.0), (bar, places[-1] + 15, 12.0), 10.0, attenuation=0.4 * TITANIUM)
    ]
    for y in places:
        rise = 0.5 * (y - 60) if y < 60 else 0.0
        parts.append(Rod((bar - 6, y, 8), (femur.lateral_x + 40, y + rise, -4), 5.5, pitch=2.5))
        parts.append(Ball((bar, y, 11), 15.0, attenuation=0.5 * TITANIUM))
    return parts


def claw_plate(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """A plate hooked over the greater trochanter, held by cables."""
    tip, x = femur.trochanter, femur.lateral_x - 3
    edge = ((tip[0] + 5, tip[1] + 4), (tip[0] - 4, tip[1] - 6), (tip[0] - 5, 20.0), (x, 46.0))
    edge = (*edge, (x, rng.uniform(70, 120)))
    rings = [
        Ring((femur.shaft_x, float(y), 0.0), (0.1, 1.0, rng.normal(0, 0.2)), 18.5, 2.0)
        for y in np.arange(30, edge[-1][1], 18)
    ]
    return [Plate(edge, 18.0, 4.5, attenuation=STEEL), *rings]


def resurfacing(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """A cap on the head with a pin in the neck, in a cup."""
    start, end = along_neck(femur, 0, 0, rng.uniform(35, 50))
    dx, dy = femur.neck
    return [
        Ball((0, 0, 0), 50.0, wall=3.5, opening=(-dx, -dy, 0)),
        Ball((0, 0, 0), 60.0, wall=4.0, opening=(0.6, -0.8, 0)),
        Rod(start, end, 9.0, 5.0, attenuation=STEEL),
        Rod(start, between(start, end, 0.2), 12.0, attenuation=STEEL),
    ]


OTHER_METAL: Final[Mapping[str, Maker]] = {
    "stem": stem,
    "wires": wires,
    "single_screw": single_screw,
    "assembly": assembly,
    "mutant": mutant,
}
"""Metal that is no device of the catalogue, for training and evaluation."""

NO_DEVICE_METAL: Final[Mapping[str, Maker]] = {"small_metal": small_metal}
"""Metal that fixes nothing: the answer is "no internal fixation device"."""

UNSEEN_METAL: Final[Mapping[str, Maker]] = {
    "blade_plate": blade_plate,
    "elastic_nails": elastic_nails,
    "external_fixator": external_fixator,
    "claw_plate": claw_plate,
    "resurfacing": resurfacing,
}
"""Kinds that no training sees."""
