"""Six generic kinds of internal fixation of the hip, as solids in millimetres; and other metal.

Generic shapes from what textbooks and instructions for use have in common (angles, diameters,
lengths); no maker's drawing was copied. Coordinates are those of `pipelines.phantoms.solids`:
origin in the femoral head's centre, x to the inner side, y downwards, z to the front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.phantoms.solids import STEEL, Part, Plate, Point, Rod

Maker = Callable[["Femur", np.random.Generator], list[Part]]


@dataclass(frozen=True)
class Femur:
    """Where a device goes.

    Attributes:
        shaft_x: The shaft's axis at the lesser trochanter.
        neck: Unit vector from the head's centre down the neck.
        trochanter: Tip of the greater trochanter.
        lateral_x: Outer cortex of the shaft.
    """

    shaft_x: float
    neck: tuple[float, float]
    trochanter: tuple[float, float]
    lateral_x: float


def along_neck(
    femur: Femur, offset: float, near: float, far: float, z: float = 0.0
) -> tuple[Point, Point]:
    """Return two points on a line parallel to the neck's axis, `offset` mm below it."""
    dx, dy = femur.neck
    base = (dy * offset, -dx * offset)
    return (
        (base[0] + dx * near, base[1] + dy * near, z),
        (base[0] + dx * far, base[1] + dy * far, z),
    )


def to_lateral(femur: Femur) -> float:
    """Distance along the neck's axis from the head's centre to the outer cortex."""
    return (femur.lateral_x - 2) / femur.neck[0]


def between(start: Point, end: Point, share: float) -> Point:
    """Return the point at a share of the way from start to end."""
    x, y, z = (a + (b - a) * share for a, b in zip(start, end, strict=True))
    return x, y, z


def _nail(femur: Femur, rng: np.random.Generator, length: float, diameter: float) -> list[Part]:
    x = femur.shaft_x
    top = (femur.trochanter[0] + 9, femur.trochanter[1] + rng.uniform(-4, 4), -2.0)
    bend = (x, 62.0, 0.0)
    # a long nail follows the femur's bow to the front
    foot = (x + rng.normal(0, 1), 62 + length, 0.02 * length)
    return [
        Rod(top, bend, diameter + 5, diameter + 1, bore=4.0),
        Rod(bend, foot, diameter + 1, diameter, bore=4.0),
    ]


def _bolt(femur: Femur, y: float, diameter: float) -> Rod:
    x = femur.shaft_x
    return Rod((x - 18, y, 0.0), (x + 17, y, 0.0), diameter, pitch=1.75)


def blade_nail(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Short cephalomedullary nail with one helical blade and one locking bolt."""
    parts = _nail(femur, rng, rng.uniform(95, 115), 10.5)
    head, outer = along_neck(femur, rng.uniform(-2, 4), -12, to_lateral(femur))
    middle = between(head, outer, 0.45)
    return [
        *parts,
        Rod(head, middle, 14.5, wings=4, bore=3.2),
        Rod(middle, outer, 10.0, bore=3.2),
        _bolt(femur, 62 + 75, 4.6),
    ]


def long_nail(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Long cephalomedullary nail with one threaded lag screw."""
    parts = _nail(femur, rng, 260.0, 11.0)
    head, outer = along_neck(femur, rng.uniform(-2, 4), -13, to_lateral(femur))
    thread = between(head, outer, 0.3)
    return [
        *parts,
        Rod(head, thread, 10.5, pitch=2.6, bore=3.2),
        Rod(thread, outer, 10.0, bore=3.2),
    ]


def twin_nail(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Nail with two integrated screws, the lower one thinner, touching."""
    parts = _nail(femur, rng, rng.uniform(100, 125), 11.5)
    upper = along_neck(femur, -2.5, -11, to_lateral(femur))
    lower = along_neck(femur, 7.0, -4, to_lateral(femur))
    return [
        *parts,
        Rod(*upper, 10.5, pitch=2.6),
        Rod(*lower, 7.0, pitch=2.0),
        _bolt(femur, 62 + 82, 5.0),
    ]


def sliding_screw(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Sliding hip screw: lag screw in a barrel, side plate with three to five screws."""
    head, outer = along_neck(femur, rng.uniform(-1, 4), -13, to_lateral(femur))
    thread, barrel = between(head, outer, 0.28), between(head, outer, 0.55)
    holes = int(rng.integers(3, 6))
    x = femur.lateral_x - 3.5
    bottom = outer[1] + 20 + 17 * holes
    edge = ((x + 1, outer[1] - 10), (x, outer[1] + 8), (x, bottom))
    places = [outer[1] + 22 + 16.5 * n for n in range(holes)]
    metal = STEEL if rng.random() < 0.6 else 0.085
    return [
        Rod(head, thread, 12.5, pitch=3.0, bore=2.5, attenuation=metal),
        Rod(thread, outer, 8.0, bore=2.5, attenuation=metal),
        Rod(barrel, outer, 12.6, bore=8.0, attenuation=metal),
        Plate(
            edge,
            19.0,
            6.0,
            holes=tuple(y - (outer[1] - 10) for y in places),
            attenuation=metal,
        ),
        *(
            Rod((x - 2.5, y, 0.0), (x + 36, y, 0.0), 4.5, pitch=1.75, attenuation=metal)
            for y in places
        ),
    ]


def cannulated_screws(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Three cannulated screws, parallel in the neck, as a triangle."""
    parts: list[Part] = []
    for offset, z in ((-8.0, 5.0), (1.5, -6.0), (9.5, 3.0)):
        head, outer = along_neck(
            femur,
            offset + rng.normal(0, 0.8),
            -10 + rng.normal(0, 2),
            to_lateral(femur) + 3,
            z + rng.normal(0, 1),
        )
        thread, cap = between(head, outer, 0.25), between(head, outer, 0.94)
        parts += [
            Rod(head, thread, 7.3, pitch=2.75, bore=2.6),
            Rod(thread, outer, 4.9, bore=2.6),
            Rod(cap, outer, 8.5, bore=2.6),
        ]
    return parts


def locking_plate(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Proximal femoral locking plate: contoured plate, three screws in the neck, more below."""
    x = femur.lateral_x - 3
    top = (femur.trochanter[0] - 3, femur.trochanter[1] - 6)
    bottom = 60 + 17 * float(rng.integers(4, 7))
    edge = (top, (femur.trochanter[0] - 5, 22.0), (x, 48.0), (x, bottom))
    before = float(np.hypot(edge[1][0] - top[0], 22 - top[1]) + np.hypot(x - edge[1][0], 26))
    places = [66.0 + 17 * n for n in range(7) if 66 + 17 * n < bottom - 6]
    parts: list[Part] = [Plate(edge, 17, 5.5, holes=tuple(before + y - 48 for y in places))]
    for offset, far, z in ((-10.0, 6.0, 4.0), (0.0, 2.0, -4.0), (10.0, 0.0, 2.0)):
        head, outer = along_neck(femur, offset, -8 + far, to_lateral(femur), z)
        end = (outer[0], outer[1] * (1 - 0.02 * offset), z)
        parts.append(Rod(head, end, 6.5, pitch=2.0))
    return parts + [Rod((x - 2, y, 0.0), (x + 35, y, 0.0), 5.0, pitch=1.75) for y in places]


DEVICES: Final[Mapping[str, Maker]] = {
    "blade_nail": blade_nail,
    "long_nail": long_nail,
    "twin_nail": twin_nail,
    "sliding_screw": sliding_screw,
    "cannulated_screws": cannulated_screws,
    "locking_plate": locking_plate,
}
"""By the key of the catalogue."""
