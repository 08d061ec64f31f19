"""Six generic kinds of internal fixation of the hip, as rods and plates in millimetres.

Generic shapes from what textbooks and instructions for use have in common (angles, diameters,
lengths); no maker's drawing was copied. Coordinates are those of `pipelines.phantoms.hip`: origin
in the femoral head's centre, x to the inner side, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True)
class Rod:
    """A round bar from start to end; `ribs` is the pitch of a thread or blade, 0 for none."""

    start: tuple[float, float]
    end: tuple[float, float]
    diameter: float
    end_diameter: float | None = None
    ribs: float = 0.0


@dataclass(frozen=True)
class Plate:
    """A flat plate along a polyline, seen from its edge, with holes."""

    points: tuple[tuple[float, float], ...]
    width: float
    thickness: float


Part = Rod | Plate


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


def _along(femur: Femur, offset: float, near: float, far: float) -> tuple[tuple[float, float], ...]:
    """Return two points on a line parallel to the neck's axis, `offset` mm below it."""
    dx, dy = femur.neck
    across = (-dy * -1.0, dx * -1.0)
    base = (across[0] * offset, across[1] * offset)
    return (
        (base[0] + dx * near, base[1] + dy * near),
        (base[0] + dx * far, base[1] + dy * far),
    )


def _to_lateral(femur: Femur) -> float:
    """Distance along the neck's axis from the head's centre to the outer cortex."""
    return (femur.lateral_x - 2) / femur.neck[0]


def _nail(femur: Femur, rng: np.random.Generator, length: float, diameter: float) -> list[Part]:
    x = femur.shaft_x
    top = (femur.trochanter[0] + 9, femur.trochanter[1] + rng.uniform(-4, 4))
    bend = (x, 62.0)
    return [
        Rod(top, bend, diameter + 5, diameter + 1),
        Rod(bend, (x + rng.normal(0, 1), 62 + length), diameter + 1, diameter),
    ]


def blade_nail(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Short cephalomedullary nail with one helical blade and one locking bolt."""
    parts = _nail(femur, rng, rng.uniform(95, 115), 10.5)
    head, outer = _along(femur, rng.uniform(-2, 4), -12, _to_lateral(femur))
    middle = (head[0] * 0.55 + outer[0] * 0.45, head[1] * 0.55 + outer[1] * 0.45)
    x, y = femur.shaft_x, 62 + 75
    return [
        *parts,
        Rod(head, middle, 12.5, ribs=7.0),
        Rod(middle, outer, 10.0),
        Rod((x - 18, y), (x + 17, y), 4.6),
    ]


def long_nail(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Long cephalomedullary nail with one threaded lag screw."""
    parts = _nail(femur, rng, 260.0, 11.0)
    head, outer = _along(femur, rng.uniform(-2, 4), -13, _to_lateral(femur))
    thread = (head[0] * 0.7 + outer[0] * 0.3, head[1] * 0.7 + outer[1] * 0.3)
    return [*parts, Rod(head, thread, 10.5, ribs=2.6), Rod(thread, outer, 10.0)]


def twin_nail(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Nail with two integrated screws, the lower one thinner, touching."""
    parts = _nail(femur, rng, rng.uniform(100, 125), 11.5)
    upper = _along(femur, -2.5, -11, _to_lateral(femur))
    lower = _along(femur, 7.0, -4, _to_lateral(femur))
    x, y = femur.shaft_x, 62 + 82
    return [
        *parts,
        Rod(upper[0], upper[1], 10.5, ribs=2.6),
        Rod(lower[0], lower[1], 7.0, ribs=2.0),
        Rod((x - 18, y), (x + 17, y), 5.0),
    ]


def sliding_screw(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Sliding hip screw: lag screw in a barrel, side plate with three to five screws."""
    head, outer = _along(femur, rng.uniform(-1, 4), -13, _to_lateral(femur))
    thread = (head[0] * 0.72 + outer[0] * 0.28, head[1] * 0.72 + outer[1] * 0.28)
    barrel = (head[0] * 0.45 + outer[0] * 0.55, head[1] * 0.45 + outer[1] * 0.55)
    holes = int(rng.integers(3, 6))
    x = femur.lateral_x - 3.5
    bottom = outer[1] + 20 + 17 * holes
    parts: list[Part] = [
        Rod(head, thread, 12.5, ribs=3.0),
        Rod(thread, outer, 8.0),
        Rod(barrel, outer, 12.6),
        Plate(((x + 1, outer[1] - 10), (x, outer[1] + 8), (x, bottom)), 19.0, 6.0),
    ]
    for n in range(holes):
        y = outer[1] + 22 + 16.5 * n
        parts.append(Rod((x - 2.5, y), (x + 36, y), 4.5, ribs=1.75))
    return parts


def cannulated_screws(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Three cannulated screws, parallel in the neck."""
    parts: list[Part] = []
    for offset in (-8.0, 1.5, 9.5):
        head, outer = _along(
            femur, offset + rng.normal(0, 0.8), -10 + rng.normal(0, 2), _to_lateral(femur) + 3
        )
        thread = (head[0] * 0.75 + outer[0] * 0.25, head[1] * 0.75 + outer[1] * 0.25)
        cap = (head[0] * 0.06 + outer[0] * 0.94, head[1] * 0.06 + outer[1] * 0.94)
        parts += [
            Rod(head, thread, 7.3, ribs=2.75),
            Rod(thread, outer, 4.9),
            Rod(cap, outer, 8.5),
        ]
    return parts


def locking_plate(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Proximal femoral locking plate: contoured plate, three screws in the neck, more below."""
    x = femur.lateral_x - 3
    top = (femur.trochanter[0] - 3, femur.trochanter[1] - 6)
    bottom = 60 + 17 * float(rng.integers(4, 7))
    parts: list[Part] = [Plate((top, (femur.trochanter[0] - 5, 22), (x, 48), (x, bottom)), 17, 5.5)]
    for offset, far in ((-10.0, 6.0), (0.0, 2.0), (10.0, 0.0)):
        dx, dy = femur.neck
        head, outer = _along(femur, offset, -8 + far, _to_lateral(femur))
        tilt = 1 - 0.02 * offset
        parts.append(Rod(head, (outer[0], outer[1] * tilt), 6.5, ribs=2.0))
        assert dx < 0 < dy
    y = 66.0
    while y < bottom - 6:
        parts.append(Rod((x - 2, y), (x + 35, y), 5.0, ribs=1.75))
        y += 17
    return parts


DEVICES: Final[Mapping[str, Callable[[Femur, np.random.Generator], list[Part]]]] = {
    "blade_nail": blade_nail,
    "long_nail": long_nail,
    "twin_nail": twin_nail,
    "sliding_screw": sliding_screw,
    "cannulated_screws": cannulated_screws,
    "locking_plate": locking_plate,
}
"""By the key of the catalogue."""


def stem(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """A hip prosthesis: no fixation device, so not in any catalogue of them."""
    x = femur.shaft_x
    return [
        Rod((0, 0), (0.1, 0.1), rng.uniform(28, 50)),
        Rod((-3, 3), (x + 6, 36), 13, 19),
        Rod((x + 5, 36), (x, 150), 21, 9),
    ]


def wires(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """Cerclage and tension-band wires."""
    x, parts = femur.shaft_x, []
    for n in range(int(rng.integers(1, 4))):
        y = 70 + 18 * n + rng.normal(0, 3)
        parts.append(Rod((x - 18, y + 3), (x + 17, y - 3), 1.8))
    if rng.random() < 0.6:
        tip = femur.trochanter
        parts += [Rod((tip[0] + d, tip[1] - 8), (x + 12 + d, 66), 2.0) for d in (0.0, 6.0)]
    return list(parts)


def single_screw(femur: Femur, rng: np.random.Generator) -> list[Part]:
    """One long screw across, of no kind in the catalogue."""
    y = rng.uniform(20, 60)
    x = femur.lateral_x
    return [Rod((x - 4, y), (x + 62, y - 45 + rng.normal(0, 12)), 4.0, ribs=1.75)]


OTHER_METAL: Final = (stem, wires, single_screw)
"""Metal that is no device of the catalogue."""
