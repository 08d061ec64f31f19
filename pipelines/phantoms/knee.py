"""AP knee radiographs that never were: a phantom with a known Kellgren-Lawrence grade.

Bones are outlines in millimetres with a thickness that bulges towards their middle, a cortical
shell and trabecular texture; soft tissue, noise, collimation and a side marker are added. The
grade sets joint-space narrowing, osteophytes and sclerosis (Kellgren and Lawrence, Ann Rheum Dis
1957;16:494-502). It is made so that a person recognises a knee; it is no model of a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.phantoms.outlines import Array, OutlineCanvas, stamp, texture

_GAP_MM: Final = (5.2, 4.6, 3.7, 2.2, 0.5)
"""Medial joint space by grade; the lateral one is narrowed by half as much."""
_OSTEOPHYTE_MM: Final = (0.0, 0.9, 2.2, 3.6, 5.5)
_SCLEROSIS: Final = (0.0, 0.01, 0.04, 0.10, 0.20)


@dataclass(frozen=True)
class Joint:
    """Where a joint lies and what was put into it.

    Attributes:
        centre: (row, column) of the joint space's middle, in pixels.
        width: Width of the tibial plateau in pixels.
        side: "R" or "L".
        grade: Kellgren-Lawrence grade.
    """

    centre: tuple[float, float]
    width: float
    side: str
    grade: int

    @property
    def crop(self) -> tuple[float, float, float]:
        """Centre (row, column) and side, in pixels, of a crop like those of the training data.

        The mean of the published crops (Chen 2018, doi 10.17632/56rmx5bjcr) has the joint line at
        0.59 of its height and a plateau of 0.83 of its width.
        """
        side = self.width / 0.83
        return self.centre[0] - 0.09 * side, self.centre[1], side


@dataclass(frozen=True)
class KneePhantom:
    """A radiograph: uint16 [H, W], 12 bits, bright bone."""

    image: npt.NDArray[np.uint16]
    spacing_mm: float
    joints: tuple[Joint, ...]


def knee_radiograph(
    seed: int,
    grade: int = 0,
    side: str = "R",
    *,
    left_grade: int | None = None,
    height_mm: float = 230.0,
    spacing_mm: float = 0.25,
    marker: bool = True,
    collimated: bool = True,
) -> KneePhantom:
    """Make one AP radiograph of a knee, or of both.

    Args:
        seed: Same seed and arguments: the same image.
        grade: Of the one knee, or of the right one.
        side: Of the one knee; the fibula lies on its outer side.
        left_grade: Given: both knees are on the film, the right one on its left.
    """
    rng = np.random.default_rng(seed)
    both = left_grade is not None
    width_mm = 330.0 if both else 165.0
    shape = (round(height_mm / spacing_mm), round(width_mm / spacing_mm))
    image = np.zeros(shape)
    joints = []
    wanted = [("R", grade), ("L", left_grade)] if both else [(side, grade)]
    for number, (name, kl) in enumerate(wanted):
        assert kl is not None
        middle = width_mm * (0.27 + 0.46 * number if both else 0.5) + rng.normal(0, 2)
        level = height_mm * 0.5 + rng.normal(0, 3)
        size = rng.uniform(0.93, 1.07)
        layer = _leg(rng, shape, spacing_mm, (level, middle), size, kl, outer_left=name == "R")
        image = np.maximum(image, layer)
        joints.append(
            Joint((level / spacing_mm, middle / spacing_mm), 76 * size / spacing_mm, name, kl)
        )
    sides = [(joint.side, joint.side == "R") for joint in (joints if both else joints[:1])]
    stored = exposed(rng, image, spacing_mm, sides if marker else [], collimated=collimated)
    return KneePhantom(stored, spacing_mm, tuple(joints))


def exposed(
    rng: np.random.Generator,
    image: Array,
    spacing_mm: float,
    markers: Sequence[tuple[str, bool]],
    *,
    collimated: bool,
) -> npt.NDArray[np.uint16]:
    """Make a film of a drawing: blur, noise, collimator borders, markers; 12 bits, bright bone.

    Args:
        markers: Each text, and whether it stands on the image's left.
    """
    shape = image.shape
    image = ndimage.gaussian_filter(image, 0.35 / spacing_mm)
    image += rng.normal(0, 0.008, shape) + ndimage.gaussian_filter(
        rng.normal(0, 0.02, shape), 0.4 / spacing_mm
    )
    if collimated:
        edge = [round(rng.uniform(2, 7) / spacing_mm) for _ in range(4)]
        mask = np.zeros(shape, bool)
        mask[edge[0] : shape[0] - edge[1], edge[2] : shape[1] - edge[3]] = True
        image = np.where(mask, image, 0.01)
    for text, left in markers:
        stamp(image, text, spacing_mm, left=left)
    return np.clip(image * rng.uniform(3400, 3900), 0, 4095).astype(np.uint16)


def _leg(
    rng: np.random.Generator,
    shape: tuple[int, int],
    spacing: float,
    centre: tuple[float, float],
    size: float,
    grade: int,
    *,
    outer_left: bool,
) -> Array:
    """Draw one leg; the outer (lateral) side is on the image's left for a right knee."""
    draw = OutlineCanvas(shape, spacing, centre, size, flip=not outer_left)
    medial = _GAP_MM[grade] + rng.normal(0, 0.2)
    lateral = 5.4 - (5.2 - medial) * 0.45
    spur = _OSTEOPHYTE_MM[grade] * rng.uniform(0.85, 1.15)

    skin = draw.area(_skin(rng))
    soft = np.clip(draw.depth(skin) / 50, 0, 1) ** 0.5 * 0.45
    femur = draw.area(_femur(lateral, medial, spur))
    tibia = draw.area(_tibia(spur, rng))
    fibula = draw.area(_FIBULA)
    patella = draw.area(_PATELLA)
    either = femur | tibia

    bone = np.zeros(shape)
    bone += draw.bone(femur, 0.31, 1.1) + draw.bone(tibia, 0.28, 1.1)
    bone += 0.55 * draw.bone(fibula, 0.17, 1.0) + 0.30 * draw.bone(patella, 0.18, 0.8)
    inside = np.clip(draw.depth(either | fibula) / 3, 0, 1)
    bone += inside * texture(rng, shape, spacing) * 0.026
    # the condyles' far parts show through the notch; the eminence is thin
    bone += 0.07 * draw.blob((-7.0, 1.0), (9.0, 11.0)) * ~femur
    bone -= 0.08 * draw.blob((-12.0, 1.0), (10.0, 9.0)) * femur
    bone -= 0.09 * draw.blob((-2.0, 0.5), (5.0, 12.0)) * tibia
    bone += 0.05 * draw.curve(_SCAR, 0.9) * femur
    # subchondral plates, of which the tibia's is the brighter
    bone += draw.plate(tibia, 1.0, 1.5) * 0.16 + draw.plate(femur, -1.0, 1.2) * 0.06
    for x, share in ((22.0, 1.0), (-22.0, 0.4)):
        for y, mask in ((1.5 - medial - 3.0, femur), (5.5, tibia)):
            bone += _SCLEROSIS[grade] * share * draw.blob((y, x), (4.5, 14.0)) * mask
    return (soft + np.clip(bone, 0, None)) * (0.92 + 0.08 * slope(shape, rng))


_SCAR: Final = ((-33.0, -29.0), (-16.0, -26.5), (0.0, -28.5), (17.0, -26.0), (35.0, -29.5))
"""The scar of the growth plate."""


def _femur(lateral: float, medial: float, spur: float) -> Array:
    top = -150.0
    low_l, low_m = 2.5 - lateral, 2.6 - medial
    return np.array(
        [
            (-13, top),
            (-13.5, -90),
            (-16, -66),
            (-24, -50),
            (-34, -40),
            (-37.5, -30),
            (-38, -20),
            (-37.4 - spur * 0.6, -10),
            (-36 - spur, -4 + spur * 0.3),
            (-32, low_l - 1.0),
            (-25, low_l),
            (-17, low_l - 0.4),
            (-11, low_l - 4.5),
            (-7, -9.5),
            (-3, -13),
            (1, -14),
            (5, -12.5),
            (9, -9),
            (12.5, low_m - 4.5),
            (18, low_m - 0.5),
            (26, low_m),
            (33, low_m - 1.2),
            (37 + spur, -4.5 + spur * 0.3),
            (38.7 + spur * 0.6, -11),
            (40.5, -20),
            (40.5, -29),
            (36, -40),
            (25, -52),
            (16.5, -68),
            (13.5, -92),
            (13, top),
        ],
        float,
    )


def _tibia(spur: float, rng: np.random.Generator) -> Array:
    bottom = 160.0
    spine = rng.uniform(-0.5, 0.8)
    return np.array(
        [
            (-36 - spur, 4.6 - spur * 0.3),
            (-30, 2.7),
            (-22, 2.5),
            (-13, 2.2),
            (-8, -1.5),
            (-5.4, -4.2 - spine),
            (-3, -3.6),
            (0.5, -2.3),
            (3.5, -4.3),
            (5.7, -5.6 - spine),
            (8.2, -3),
            (12.5, 1.4),
            (21, 2.6),
            (30, 2.5),
            (37 + spur, 3.9 - spur * 0.3),
            (38.5, 8),
            (37, 17),
            (31, 30),
            (23, 45),
            (16.5, 66),
            (14, 95),
            (13, bottom),
            (-12, bottom),
            (-13, 95),
            (-15, 68),
            (-21, 46),
            (-30, 30),
            (-36.5, 18),
            (-38.5, 9),
        ],
        float,
    )


_FIBULA: Final = np.array(
    [
        (-44, 19),
        (-38, 12.5),
        (-33, 15),
        (-31, 22),
        (-33, 32),
        (-35, 48),
        (-34, 80),
        (-32, 160),
        (-41, 160),
        (-43, 80),
        (-43, 50),
        (-45, 34),
        (-46.5, 25),
    ],
    float,
)
_PATELLA: Final = np.array(
    [
        (0, -57),
        (11, -54),
        (19, -45),
        (19.5, -34),
        (13, -24),
        (2, -17),
        (-9, -23),
        (-17, -33),
        (-18, -45),
        (-11, -54),
    ],
    float,
)


def _skin(rng: np.random.Generator) -> Array:
    fat = rng.uniform(-2, 6)
    right = [(62 + fat, -150), (60 + fat, -70), (55 + fat, -25), (53 + fat, 15), (56 + fat, 60)]
    left = [(-58 - fat, 60), (-55 - fat, 15), (-56 - fat, -25), (-60 - fat, -70), (-64 - fat, -150)]
    return np.array([*right, (54 + fat, 160), (-54 - fat, 160), *left], float)


def slope(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Draw a change of exposure across the film, about -1 to 1 (the anode's heel)."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    found: Array = rows * rng.uniform(-0.5, 0.5) + columns * rng.uniform(-0.5, 0.5)
    return found
