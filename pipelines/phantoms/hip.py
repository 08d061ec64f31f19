"""AP hip radiographs that never were: a phantom hip with a known internal fixation device.

Bones are outlines in millimetres with a bulging thickness, a cortical shell and texture; devices
are solids (`solids.py`), turned in space and met by the rays of a point source (Beer-Lambert), with
scatter and noise. A person recognises a hip and the kind of device; it is no model of a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.phantoms.hip_devices import DEVICES, Femur
from pipelines.phantoms.hip_other_metal import NO_DEVICE_METAL, OTHER_METAL, UNSEEN_METAL
from pipelines.phantoms.outlines import Array, OutlineCanvas, stamp, texture
from pipelines.phantoms.solids import Beam, shade, turned


@dataclass(frozen=True)
class HipPhantom:
    """A radiograph: uint16 [H, W], 12 bits, bright bone.

    Attributes:
        centre: (row, column) of the femoral head.
        device: Key of the catalogue, "none", "other" for metal that is not in it, or a kind of
            `hip_other_metal`.
        view: "AP", or "FROG" (the leg turned out and up).
    """

    image: npt.NDArray[np.uint16]
    spacing_mm: float
    centre: tuple[float, float]
    side: str
    device: str
    view: str


def hip_radiograph(
    seed: int,
    device: str = "none",
    side: str = "R",
    view: str = "AP",
    *,
    height_mm: float = 330.0,
    width_mm: float = 260.0,
    spacing_mm: float = 0.35,
    marker: bool = True,
) -> HipPhantom:
    """Make one radiograph of a hip.

    Args:
        seed: Same seed and arguments: the same image.
        device: A key of `DEVICES`, "none", "other" (one of `OTHER_METAL` by chance), or a kind of
            `hip_other_metal`.
        view: "AP" or "FROG".
    """
    rng = np.random.default_rng(seed)
    shape = (round(height_mm / spacing_mm), round(width_mm / spacing_mm))
    size = rng.uniform(0.92, 1.08)
    middle = (
        height_mm * 0.36 + rng.normal(0, 8),
        width_mm * (0.52 if side == "R" else 0.48) + rng.normal(0, 7),
    )
    canvas = OutlineCanvas(shape, spacing_mm, middle, size, flip=side == "L")
    femur, turn = femur_pose(rng, view)
    image = _tissue(canvas, rng) + _pelvis(canvas, rng)
    image += _femur(canvas, rng, turn)
    image += 0.045 * texture(rng, shape, spacing_mm) * np.clip(image - 0.42, 0, 0.3)
    image = with_metal(image, metal(canvas.x, canvas.y, rng, device, femur, turn), rng)
    image = ndimage.gaussian_filter(image, 0.35 / spacing_mm)
    image = expose(image, rng, spacing_mm)
    if marker:
        stamp(image, side, spacing_mm, left=side == "R")
    stored = np.clip(image * 4095, 0, 4095).astype(np.uint16)
    row, column = (n / spacing_mm for n in middle)
    return HipPhantom(stored, spacing_mm, (row, column), side, device, view)


def femur_pose(rng: np.random.Generator, view: str) -> tuple[Femur, float]:
    angle = np.radians(rng.uniform(126, 136) - 90)
    turn = rng.normal(0, 3) if view == "AP" else rng.uniform(38, 60)
    return (
        Femur(-47.0, (-float(np.cos(angle)), float(np.sin(angle))), (-58.0, -6.0), -63.0),
        float(np.radians(turn)),
    )


_FEMUR: Final = np.array(
    [
        (0, -24),
        (13, -20),
        (22, -9),
        (24, 3),
        (20, 14),
        (11, 21),
        (2, 24),
        (-8, 30),
        (-17, 41),
        (-23, 54),
        (-25, 62),
        (-27, 70),
        (-31, 80),
        (-33, 100),
        (-33.5, 140),
        (-33, 250),
        (-61, 250),
        (-62, 150),
        (-63, 90),
        (-64, 60),
        (-67, 40),
        (-69, 22),
        (-68, 6),
        (-62, -6),
        (-54, -9),
        (-46, -3),
        (-40, 3),
        (-30, -4),
        (-22, -13),
        (-12, -21),
    ],
    float,
)
_ILIUM: Final = np.array(
    [
        (-34, -22),
        (-41, -55),
        (-66, -110),
        (-60, -150),
        (-10, -175),
        (45, -160),
        (62, -120),
        (66, -80),
        (52, -52),
        (46, -25),
        (44, 4),
        (36, 16),
        (30, 22),
        (27, 10),
        (27, -6),
        (21, -20),
        (8, -29),
        (-10, -30),
        (-24, -26),
    ],
    float,
)
_ISCHIUM: Final = np.array(
    [
        (40, -4),
        (56, 6),
        (84, 16),
        (104, 20),
        (106, 46),
        (92, 50),
        (76, 72),
        (58, 92),
        (42, 92),
        (33, 74),
        (31, 52),
        (31, 30),
        (34, 12),
    ],
    float,
)
_FORAMEN: Final = np.array(
    [(46, 22), (62, 21), (82, 30), (84, 42), (70, 58), (58, 72), (48, 68), (42, 50), (42, 32)],
    float,
)
_SKIN: Final = np.array(
    [
        (-98, -190),
        (-104, -60),
        (-106, 40),
        (-96, 260),
        (14, 260),
        (34, 130),
        (70, 108),
        (190, 112),
        (190, -190),
    ],
    float,
)


def _tissue(canvas: OutlineCanvas, rng: np.random.Generator) -> Array:
    skin = canvas.area(_SKIN)
    soft: Array = 0.36 * np.sqrt(np.clip(canvas.depth(skin) / 70, 0, 1))
    for _ in range(3):
        y, x = rng.uniform(-150, -60), rng.uniform(20, 120)
        soft -= 0.09 * canvas.blob((y, x), (rng.uniform(8, 18), rng.uniform(10, 24)))
    return soft


def _pelvis(canvas: OutlineCanvas, rng: np.random.Generator) -> Array:
    jitter = rng.normal(0, 1.2, 2)
    ilium = canvas.area(_ILIUM + jitter)
    ischium = canvas.area(_ISCHIUM + jitter) & ~canvas.area(_FORAMEN + jitter)
    bone = canvas.bone(ilium, 0.16, 2.2) + canvas.bone(ischium, 0.17, 1.6)
    # the roof of the acetabulum, and the walls seen through the head
    radius = np.hypot(canvas.x, canvas.y)
    roof = np.exp(-(((radius - 28.5) / 2.0) ** 2)) * (canvas.y < -6) * (canvas.x > -30)
    wall = np.exp(-(((radius - 27) / 1.2) ** 2)) * (canvas.x > -4) * (canvas.y > -20)
    column = canvas.curve([(48, -40), (40, -10), (38, 20), (36, 60)], 1.3)
    return bone + 0.14 * roof + 0.05 * wall + 0.07 * column


def _femur(canvas: OutlineCanvas, rng: np.random.Generator, turn: float) -> Array:
    cos, sin = np.cos(turn), np.sin(turn)
    # the leg turns about the head's centre, its lower end outwards
    outline = np.column_stack(
        [_FEMUR[:, 0] * cos - _FEMUR[:, 1] * sin, _FEMUR[:, 0] * sin + _FEMUR[:, 1] * cos]
    )
    mask = canvas.area(outline)
    depth = canvas.depth(mask)
    along = canvas.y * cos - canvas.x * sin
    cortex = 2.0 + 4.0 / (1 + np.exp(-(along - 75) / 12))
    shell = np.exp(-(((depth - cortex / 2) / (cortex * 0.8)) ** 2)) * (depth > 0)
    bulge = np.sqrt(np.clip(depth / 15, 0, 1))
    head = canvas.blob((0, 0), (24, 24))
    return 0.17 * bulge + 0.05 * (depth > 0) + 0.17 * shell + 0.03 * head * (depth > 0)


def with_metal(image: Array, exponent: Array | None, rng: np.random.Generator) -> Array:
    """Weaken the rays exponentially; scatter lifts what lies behind metal."""
    if exponent is None:
        return image
    return image + (1.12 - image) * (1 - np.exp(-exponent)) * rng.uniform(0.9, 1.0)


def metal(
    x: Array, y: Array, rng: np.random.Generator, device: str, femur: Femur, turn: float
) -> Array | None:
    """The exponent of Beer-Lambert's law on each ray; the device turns with the leg.

    Args:
        x, y: Where the rays end, mm from the femoral head's centre: to the inner side, and down.
    """
    if device == "none":
        return None
    if device == "other":
        device = str(rng.choice(list(OTHER_METAL)))
    makers = {**DEVICES, **OTHER_METAL, **NO_DEVICE_METAL, **UNSEEN_METAL}
    parts = makers[device](femur, rng)
    # anteversion and leg rotation about the shaft, flexion about the table's width
    pose = turned(np.radians(rng.normal(0, 4)), np.radians(rng.normal(0, 9)), turn)
    source = (float(rng.normal(20, 25)), float(rng.normal(0, 30)), float(rng.uniform(900, 1100)))
    # a harder beam is weakened less
    return rng.uniform(0.8, 1.3) * shade(parts, x, y, Beam(pose, source))


def expose(image: Array, rng: np.random.Generator, spacing: float) -> Array:
    """Gain, gamma, unevenness, scatter and noise; collimated to dark, seldom to white."""
    shape = image.shape
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    image = image * (1 + 0.1 * (rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1)))
    image = np.clip(image, 0, 1.1) ** rng.uniform(0.75, 1.25) * rng.uniform(0.85, 1.0)
    fog = rng.uniform(0, 0.06)
    image = image + fog + rng.normal(0, 0.006, shape)
    image += ndimage.gaussian_filter(rng.normal(0, 0.02, shape), 0.45 / spacing)
    edge = [round(rng.uniform(1, 9) / spacing) for _ in range(4)]
    mask = np.zeros(shape, bool)
    mask[edge[0] : shape[0] - edge[1], edge[2] : shape[1] - edge[3]] = True
    outside = 0.95 if rng.random() < 0.12 else 0.01
    found: Array = np.where(mask, image, outside)
    return found
