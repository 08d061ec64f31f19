"""Lateral knee radiographs that never were: what the knee pipelines must refuse.

Outlines in millimetres as those of the AP phantom, seen from the side: both condyles behind each
other, the patella in front, the fibula behind the tibia; more or less bent, turned and rotated. No
radiograph of a real knee from the side could be had; it is no model of a patient.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from pipelines.phantoms.knee import exposed, slope
from pipelines.phantoms.outlines import Array, OutlineCanvas, texture

_HINGE: Final = (-4.0, -19.0)
"""About which the thigh is bent: the middle of the condyles."""


def lateral_knee(
    seed: int, *, height_mm: float = 230.0, spacing_mm: float = 0.25, marker: bool = True
) -> npt.NDArray[np.uint16]:
    """Make one lateral radiograph of a knee, bent by 0 to 60 degrees, facing left or right.

    Args:
        seed: Same seed and arguments: the same image.

    Returns:
        uint16 [H, W], 12 bits, bright bone; the joint is about in the middle.
    """
    rng = np.random.default_rng([seed, 41])
    width_mm = 180.0
    shape = (round(height_mm / spacing_mm), round(width_mm / spacing_mm))
    centre = (height_mm * 0.5 + rng.normal(0, 4), width_mm * 0.5 + rng.normal(0, 4))
    left = bool(rng.random() < 0.5)
    draw = OutlineCanvas(shape, spacing_mm, centre, rng.uniform(0.92, 1.08), flip=left)
    whole = np.radians(rng.normal(0, 6))
    bent = np.radians(rng.uniform(0, 60))

    def leg(outline: Array) -> Array:
        return _turned(outline, whole, (0.0, 0.0))

    def thigh(outline: Array) -> Array:
        return leg(_turned(outline, bent, _HINGE))

    skin = draw.area(thigh(_THIGH)) | draw.area(leg(_CALF))
    soft = np.clip(draw.depth(skin) / 50, 0, 1) ** 0.5 * 0.45
    apart = rng.normal([-3.0, 1.0], [2.0, 1.5])
    tibia, femur = draw.area(leg(_TIBIA)), draw.area(thigh(_FEMUR))
    other = draw.area(thigh(_CONDYLE + apart))
    fibula, patella = draw.area(leg(_FIBULA)), draw.area(leg(_turned(_PATELLA, bent / 2, _HINGE)))
    bone = draw.bone(femur, 0.26, 1.0) + draw.bone(tibia, 0.27, 1.0)
    bone += 0.45 * draw.bone(other, 0.2, 1.0) + 0.45 * draw.bone(fibula, 0.17, 1.0)
    bone += 0.8 * draw.bone(patella, 0.22, 1.0)
    inside = np.clip(draw.depth(femur | tibia | patella) / 3, 0, 1)
    bone += inside * texture(rng, shape, spacing_mm) * 0.026
    image = (soft + np.clip(bone, 0, None)) * (0.92 + 0.08 * slope(shape, rng))
    markers = [("RL"[int(left)], left)] if marker else []
    return exposed(rng, image, spacing_mm, markers, collimated=True)


def _turned(outline: Array, angle: float, about: tuple[float, float]) -> Array:
    """Turn points (x, y): what lies above the hinge goes backwards."""
    cos, sin = np.cos(angle), np.sin(angle)
    found: Array = (outline - about) @ np.array([[cos, -sin], [sin, cos]]) + about
    return found


_FEMUR: Final = np.array(
    [
        (14, -190),
        (13, -95),
        (15, -64),
        (21, -48),
        (28, -38),
        (32, -27),
        (31, -15),
        (24, -6),
        (13, -2),
        (0, -1),
        (-13, -3),
        (-24, -9),
        (-31, -19),
        (-31, -31),
        (-25, -39),
        (-17, -45),
        (-14, -60),
        (-13, -95),
        (-12, -190),
    ],
    float,
)
_CONDYLE: Final = np.array(
    [
        (20, -40),
        (29, -30),
        (28, -15),
        (15, -3),
        (0, -1),
        (-15, -3),
        (-28, -13),
        (-33, -25),
        (-27, -37),
        (-12, -43),
        (5, -44),
    ],
    float,
)
_TIBIA: Final = np.array(
    [
        (22, 5),
        (25, 9),
        (24, 18),
        (26, 29),
        (24, 40),
        (17, 56),
        (14, 78),
        (13, 110),
        (12, 170),
        (-13, 170),
        (-13, 110),
        (-13, 80),
        (-15, 60),
        (-18, 45),
        (-23, 30),
        (-28, 19),
        (-29, 11),
        (-25, 7.5),
        (-12, 5.5),
        (-5, 0),
        (-2, -2),
        (3, -1.5),
        (8, 3),
        (15, 4),
    ],
    float,
)
_FIBULA: Final = np.array(
    [
        (-28, 22),
        (-21, 14),
        (-14, 19),
        (-14, 30),
        (-16, 46),
        (-14, 170),
        (-23, 170),
        (-25, 46),
        (-29, 31),
    ],
    float,
)
_PATELLA: Final = np.array(
    [(38, -50), (46, -54), (52, -44), (52, -30), (46, -17), (40, -15), (36, -25), (35, -40)],
    float,
)
_THIGH: Final = np.array(
    [
        (66, -190),
        (60, -90),
        (60, -50),
        (58, -12),
        (44, 12),
        (0, 25),
        (-38, 12),
        (-48, -25),
        (-62, -90),
        (-72, -190),
    ],
    float,
)
_CALF: Final = np.array(
    [
        (56, -40),
        (57, -18),
        (43, 14),
        (40, 40),
        (42, 100),
        (38, 170),
        (-46, 170),
        (-58, 100),
        (-50, 45),
        (-42, 5),
        (-40, -30),
        (0, -50),
    ],
    float,
)
