"""An unenhanced abdominal CT that never was: a phantom with known vertebral BMD.

Everything is drawn from simple solids in millimetres, so a study takes seconds and its truth
(levels, body masks, BMD) is exact. It is made to look like an abdominal CT to a person and to
the lumbar pipeline; it is no model of a real patient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit

from pipelines.phantoms.lumbar_abdomen import (
    Habitus,
    paint_muscles,
    paint_organs,
    paint_trunk,
    paint_vessels,
)
from pipelines.phantoms.lumbar_bowel import paint_bowel
from pipelines.phantoms.lumbar_canvas import Array, Canvas, paint_rod
from pipelines.phantoms.lumbar_pelvis import paint_ilium, paint_rib, paint_sacrum
from pipelines.phantoms.lumbar_spine import (
    LEVELS,
    Vertebra,
    build_spine,
    paint_canal,
    paint_disc,
    paint_vertebra,
)
from pipelines.transforms.lumbar_hu import hu_of_bmd

MEASURED: Final = ("L1", "L2", "L3", "L4")


@dataclass(frozen=True)
class Truth:
    """What was put into a phantom.

    Attributes:
        labels: uint8 [H, W, D]: index in `LEVELS` + 1 inside each vertebral body (1 = S1,
            2 = L5 … 6 = L1, 7 = T12 …), 0 elsewhere.
        centres: Voxel indices (row, column, slice) of each body's centre, by level.
        bmd: Trabecular BMD in mg/cm³ of L1 to L5.
        hu: The trabecular HU that stands for it.
    """

    labels: npt.NDArray[np.uint8]
    centres: Mapping[str, tuple[float, float, float]]
    bmd: Mapping[str, float]
    hu: Mapping[str, float]


@dataclass(frozen=True)
class Phantom:
    """A CT volume with its geometry and truth.

    Attributes:
        volume: int16 HU [H, W, D]: rows to the back, columns to the patient's left (supine,
            head first, as a CT shows it), slices from feet to head.
        affine: 4×4, voxel index (row, column, slice) to RAS mm.
        spacing: (row, column, slice) in mm.
    """

    volume: npt.NDArray[np.int16]
    affine: npt.NDArray[np.float64]
    spacing: tuple[float, float, float]
    truth: Truth


def lumbar_ct(
    seed: int,
    bmd_mg_cm3: float = 120.0,
    spacing: tuple[float, float, float] = (1.6, 1.6, 3.0),
    size: int = 240,
    slices: int = 104,
    *,
    bottom_mm: float = -62.0,
    noise_hu: float = 11.0,
    kernel_mm: float = 0.7,
    level_spread: float = 4.0,
    lordosis: float | None = None,
    wedge: Mapping[str, float] | None = None,
    metal_level: str | None = None,
    enhancement_hu: float = 0.0,
    table: bool = True,
    lowest_rib: str = "T12",
) -> Phantom:
    """Make one CT of the abdomen.

    Args:
        seed: Same seed and arguments: the same volume.
        bmd_mg_cm3: Mean trabecular BMD of L1 to L5.
        spacing: (row, column, slice) in mm; slices are contiguous and as thick.
        size: Rows and columns.
        slices: Number of slices.
        bottom_mm: Height of the lowest slice above the centre of S1 (negative: below it).
            Above about 40 the sacrum is out of view.
        noise_hu: Standard deviation of the noise in the middle of the trunk.
        kernel_mm: Gaussian sigma in-plane; about 0.7 soft, 0.3 sharp.
        level_spread: Standard deviation of BMD between levels, mg/cm³.
        lordosis: Factor on the curve's tilts; None draws one of 0.7 to 1.2.
        wedge: Level to share of anterior height lost (fracture).
        metal_level: Level that holds pedicle screws (HU above 2500).
        enhancement_hu: HU that contrast adds to blood and kidneys.
        table: Whether the table is seen.
        lowest_rib: "T11" and "L1" make a transition: six or four vertebrae without a rib.
    """
    rng = np.random.default_rng(seed)
    thin = max(1, math.ceil(spacing[2] / 3.0))
    step = spacing[2] / thin
    canvas = Canvas(
        (size, size, slices * thin),
        (spacing[0], spacing[1], step),
        bottom_mm - (thin - 1) / 2 * step,
        rng,
    )
    habitus = Habitus.draw(rng)
    bmd = {
        name: bmd_mg_cm3 + rng.normal(0, level_spread) for name in ("L5", "L4", "L3", "L2", "L1")
    }
    hu = {name: hu_of_bmd(max(bmd.get(name, bmd_mg_cm3), 5.0)) for name in LEVELS}
    scale = rng.uniform(0.92, 1.08) * (0.94 + 0.06 * (habitus.half_width - 148) / 32)
    curve = lordosis if lordosis is not None else rng.uniform(0.7, 1.2)
    s1_y = habitus.half_depth * 0.97 - habitus.fat_back - 56 * scale
    spine = build_spine(
        rng,
        hu,
        scale,
        curve,
        (rng.normal(0, 3), s1_y, 0.0),
        rng.normal(0, 3.0),
        wedge or {},
        disc_scale=rng.uniform(0.75, 1.1),
    )
    cortex = 360.0 + 1.6 * bmd_mg_cm3 + rng.normal(0, 30)

    paint_trunk(canvas, habitus, table)
    paint_organs(canvas, spine, habitus, enhancement_hu)
    paint_bowel(canvas, spine, habitus)
    paint_muscles(canvas, spine, habitus)
    paint_vessels(canvas, spine, enhancement_hu, calcified=rng.uniform(0, 14))
    _paint_bones(canvas, spine, habitus, cortex, lowest_rib)
    if metal_level:
        _paint_screws(canvas, next(v for v in spine if v.name == metal_level))
    canvas.thicken(thin)
    volume = _scan(canvas, noise_hu, kernel_mm, habitus)
    affine = np.array(
        [
            [0, -spacing[1], 0, -canvas.x.ravel()[0]],
            [-spacing[0], 0, 0, -canvas.y.ravel()[0]],
            [0, 0, spacing[2], canvas.z.ravel()[0]],
            [0, 0, 0, 1],
        ],
        np.float64,
    )
    return Phantom(volume, affine, spacing, _truth(canvas, spine, bmd, hu))


def _paint_bones(
    canvas: Canvas, spine: list[Vertebra], habitus: Habitus, cortex: float, lowest_rib: str
) -> None:
    by_name = {v.name: v for v in spine}
    paint_canal(canvas, spine)
    for below, above in pairwise(spine):
        paint_disc(canvas, below, above)
    paint_sacrum(canvas, by_name["S1"], cortex)
    for vertebra in spine:
        paint_vertebra(canvas, vertebra, cortex, lumbar=vertebra.name[0] in "LS")
    lining = (habitus.fat_side + 0.5 * habitus.wall, habitus.fat_back + 10)
    ribs = (("T8", 1.0), ("T9", 0.98), ("T10", 0.94), ("T11", 0.62), ("T12", 0.45), ("L1", 0.4))
    for name, share in ribs:
        if LEVELS.index(name) < LEVELS.index(lowest_rib):
            continue
        paint_rib(
            canvas,
            by_name[name],
            habitus.half_width * 0.97 - lining[0],
            habitus.half_depth - lining[1],
            share,
            cortex,
        )
    crest = by_name["L5"].centre[2] + 0.55 * (by_name["L4"].centre[2] - by_name["L5"].centre[2])
    paint_ilium(
        canvas,
        float(crest),
        float(by_name["S1"].centre[1]),
        habitus.half_width - habitus.fat_side,
        cortex,
        within=lambda x, y, z: habitus.outline(
            x, y, z, (0.9 * habitus.fat_side, habitus.fat_front, habitus.fat_back)
        ),
    )


def _paint_screws(canvas: Canvas, vertebra: Vertebra) -> None:
    up = np.array([0, 0, 12], np.float32)
    for side in (-1, 1):
        tip = vertebra.point(side * 8, -vertebra.half_depth * 0.4, 3)
        head = vertebra.point(side * 19, vertebra.half_depth + 28, 4)
        paint_rod(canvas, [tip, head], 3.2, 9000.0, warped=False)
        paint_rod(canvas, [head - up, head + up], 5.0, 9000.0, warped=False)


def _scan(
    canvas: Canvas, noise_hu: float, kernel_mm: float, habitus: Habitus
) -> npt.NDArray[np.int16]:
    """Blur, noise that grows towards the middle, 12-bit range, round reconstruction field."""
    dy, dx, _ = canvas.spacing
    volume = ndimage.gaussian_filter(canvas.volume, (kernel_mm / dy, kernel_mm / dx, 0.0))
    white = canvas.rng.standard_normal(volume.shape, dtype=np.float32)
    grain = ndimage.gaussian_filter(white, (kernel_mm / dy, kernel_mm / dx, 0.0))
    grain -= 0.55 * ndimage.gaussian_filter(white, (3 * kernel_mm / dy, 3 * kernel_mm / dx, 0.0))
    grain /= grain.std()
    depth = 0.35 + 0.65 * np.exp(
        -((canvas.x / (0.9 * habitus.half_width)) ** 2 + (canvas.y / habitus.half_depth) ** 2)
    )
    # The pelvis' thick bone starves the detector: more noise, in stripes from side to side.
    stripes = ndimage.gaussian_filter1d(grain, 5.0 / dx, axis=1)
    pelvis = expit((15 - canvas.z) / 12)
    volume += noise_hu * depth * (grain + 1.3 * pelvis * stripes)
    outside = canvas.x**2 + canvas.y**2 > (0.5 * volume.shape[0] * dy) ** 2
    volume = np.where(outside, -1024.0, np.clip(volume, -1024.0, 3071.0))
    return np.rint(volume).astype(np.int16)


def _truth(
    canvas: Canvas, spine: list[Vertebra], bmd: Mapping[str, float], hu: Mapping[str, float]
) -> Truth:
    labels = np.zeros(canvas.volume.shape, np.uint8)
    centres = {}
    for index, vertebra in enumerate(spine):
        reach = vertebra.half_width + 8
        box = canvas.box(vertebra.centre - reach, vertebra.centre + reach)
        position = (
            (vertebra.centre[1] - canvas.y.ravel()[0]) / canvas.spacing[0],
            (vertebra.centre[0] - canvas.x.ravel()[0]) / canvas.spacing[1],
            (vertebra.centre[2] - canvas.z.ravel()[0]) / canvas.spacing[2],
        )
        if box is None or not 0 <= position[2] <= labels.shape[2] - 1:
            continue
        rows, columns, slices = box
        inside = vertebra.body_distance(
            canvas.x[:, columns], canvas.y[rows], canvas.z[:, :, slices]
        )
        labels[box][inside < 0] = index + 1
        centres[vertebra.name] = (float(position[0]), float(position[1]), float(position[2]))
    return Truth(
        labels=labels,
        centres=centres,
        bmd=dict(bmd),
        hu={name: hu[name] for name in bmd},
    )


def as_channel_first(volume: npt.NDArray[np.int16]) -> Array:
    """[H, W, D] to the [1, H, W, D] float32 that the engine gives a pipeline."""
    return volume[None].astype(np.float32)
