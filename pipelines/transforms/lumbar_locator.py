"""Find L1 to L4 in a CT volume: checks of the series, the U-Net, names, masks at full size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from dicom_node.model.codes import Code
from dicom_node.model.contrast import contrast_given
from dicom_node.model.targets import Rejection, Target
from pipelines.transforms import lumbar_reasons as reasons
from pipelines.transforms.lumbar_grid import RasGrid, axes_of, ras_grid
from pipelines.transforms.lumbar_heights import Heights, measure_heights, suspect
from pipelines.transforms.lumbar_kernels import is_sharp
from pipelines.transforms.lumbar_levels import Level, LevelUncertainError, name_levels
from pipelines.transforms.lumbar_ribs import check_ribs
from pipelines.transforms.lumbar_surface import fit_surface

GRID_MM: Final = 4.0
VERTEBRA: Final[Mapping[str, Code]] = {
    "L1": Code("66794005", "SCT", "L1 vertebra"),
    "L2": Code("14293000", "SCT", "L2 vertebra"),
    "L3": Code("36470004", "SCT", "L3 vertebra"),
    "L4": Code("11994002", "SCT", "L4 vertebra"),
    "L5": Code("49668003", "SCT", "L5 vertebra"),
}
_HALF_WIDTH_MM: Final = 96.0
_MARGIN_MM: Final = 12.0
"""Around the network's body: more than the surface's fit may move."""


class Finder(Protocol):
    """What the locator needs of the network."""

    def locate(self, volume: Tensor) -> Tensor: ...


class LumbarLocator:
    """Callable for the engine: (image, attributes) to one target a level, or one rejection.

    Each target's `extras` hold `offset` (row, column, slice of a sub-box), `body` and `roi`
    (boolean arrays on that box, source voxels) and `centre` (source voxel). `slices` are the
    images through the middle of the body that are read.

    Args:
        network: Gives `locate`; the engine's own network, so that its weights are loaded.
        levels: Which vertebrae to evaluate.
        erosion_mm: How far inside the body's surface the trabecular region begins; more where
            slices are thick.
        max_slices: At most so many images a vertebra.
        max_thickness_mm, min_slices, min_coverage_mm: Limits of the series.
        metal_hu, metal_ml: More than this volume above this HU around a body is metal.
        kvp: Tube voltages that the relation of HU to BMD holds for; None: not looked at.
        check_ribs: Whether the last rib must confirm the count from the sacrum.
        least_height_ratio: A body lower than this at its front or middle, against its back, is
            suspected of a fracture; 0: not looked at.
    """

    def __init__(
        self,
        network: Finder,
        levels: Sequence[str] = ("L1", "L2", "L3", "L4"),
        erosion_mm: float = 4.5,
        max_slices: int = 7,
        max_thickness_mm: float = 5.0,
        min_slices: int = 20,
        min_coverage_mm: float = 100.0,
        metal_hu: float = 2500.0,
        metal_ml: float = 0.05,
        kvp: Sequence[float] | None = (110.0, 130.0),
        check_ribs: bool = True,
        least_height_ratio: float = 0.8,
    ) -> None:
        self.network = network
        self.levels = tuple(levels)
        self.erosion_mm = erosion_mm
        self.max_slices = max_slices
        self.max_thickness_mm = max_thickness_mm
        self.min_slices = min_slices
        self.min_coverage_mm = min_coverage_mm
        self.metal_hu = metal_hu
        self.metal_ml = metal_ml
        self.kvp = None if kvp is None else (float(kvp[0]), float(kvp[1]))
        self.check_ribs = check_ribs
        self.least_height_ratio = least_height_ratio

    def __call__(self, image: Tensor, attributes: Mapping[str, Any]) -> list[Target | Rejection]:
        affine = np.asarray(getattr(image, "affine", np.eye(4)), np.float64)
        refused = self.check_series(tuple(image.shape[1:]), affine, attributes)
        if refused:
            return [refused]
        volume = image.as_subclass(Tensor)[0].cpu()
        grid = ras_grid(volume, affine, GRID_MM)
        probabilities, start = self._probabilities(grid)
        shift = np.array([start, 0, 0])
        try:
            by_name = {level.name: level for level in name_levels(probabilities, GRID_MM)}
            if self.check_ribs:
                check_ribs(grid.data.numpy(), by_name, shift, GRID_MM)
        except LevelUncertainError as uncertain:
            return [reasons.level_uncertain(str(uncertain))]
        enhanced = _enhanced_share(grid, by_name, shift)
        if enhanced > 0.12:
            return [reasons.contrast_given("the vessels in front of the spine are bright")]
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        # SciPy lets go of the interpreter: the levels take as many cores as the network may
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            targets = list(
                pool.map(
                    lambda name: self._target(
                        name, by_name.get(name), probabilities, grid, start, volume, spacing
                    ),
                    self.levels,
                )
            )
        return list(self._without_fractures(targets))

    def _without_fractures(self, targets: Sequence[Target]) -> Sequence[Target]:
        heights: dict[str, Heights] = {
            t.name: t.extras["heights"] for t in targets if "heights" in t.extras
        }
        done = []
        for target in targets:
            why = None
            if target.rejection is None and target.name in heights and self.least_height_ratio:
                why = suspect(target.name, heights, self.least_height_ratio)
            rejection = reasons.fracture_suspected(target.name, why) if why else target.rejection
            done.append(replace(target, rejection=rejection))
        return done

    def check_series(
        self, shape: tuple[int, ...], affine: npt.NDArray[np.float64], attributes: Mapping[str, Any]
    ) -> Rejection | None:
        """Reasons that need no look at the pixels."""
        if contrast_given(attributes):
            return reasons.contrast_given("by the header")
        order, _ = axes_of(affine)
        if order[2] != 2:
            return reasons.not_axial()
        kernels = attributes.get("ConvolutionKernel")
        for kernel in kernels if isinstance(kernels, list | tuple) else [kernels]:
            if kernel and is_sharp(str(kernel)):
                return reasons.unfit_kernel(str(kernel))
        voltage = attributes.get("KVP")
        if self.kvp and isinstance(voltage, int | float) and voltage > 0:
            low, high = self.kvp
            if not low <= voltage <= high:
                return reasons.unfit_voltage(float(voltage), low, high)
        apart = float(np.linalg.norm(affine[:3, 2]))
        thickness = attributes.get("SliceThickness")
        thick = max(apart, float(thickness)) if isinstance(thickness, int | float) else apart
        if thick > self.max_thickness_mm + 0.05:
            return reasons.too_thick(thick, self.max_thickness_mm)
        if shape[2] < self.min_slices or shape[2] * apart < self.min_coverage_mm:
            return reasons.too_few(shape[2], shape[2] * apart)
        return None

    def _probabilities(self, grid: RasGrid) -> tuple[npt.NDArray[np.float32], int]:
        """The network's maps on a band around the body's middle, and where the band begins."""
        inside = (grid.data > -300).float()
        mass = inside.sum((1, 2))
        if float(mass.sum()) > 0:
            middle = float((mass * torch.arange(len(mass))).sum() / mass.sum())
        else:
            middle = (len(mass) - 1) / 2
        half = round(_HALF_WIDTH_MM / GRID_MM)
        start = int(np.clip(round(middle) - half, 0, max(0, len(mass) - 2 * half)))
        maps = self.network.locate(grid.data[start : start + 2 * half])
        return maps.float().numpy(), start

    def _target(
        self,
        name: str,
        level: Level | None,
        probabilities: npt.NDArray[np.float32],
        grid: RasGrid,
        start: int,
        volume: Tensor,
        spacing: npt.NDArray[np.float64],
    ) -> Target:
        code = VERTEBRA[name]
        if level is None or not level.complete:
            return Target(name=name, anatomy=code, rejection=reasons.out_of_view(name))
        blob, low = _body_mask(level, probabilities[0], grid, start, volume.shape)
        near = _around(blob, spacing)
        blob = blob[near]
        offset = (low[0] + near[0].start, low[1] + near[1].start, low[2] + near[2].start)
        box = tuple(slice(o, o + n) for o, n in zip(offset, blob.shape, strict=True))
        depth = fit_surface(
            volume[box].float().numpy(), blob, spacing, grid.direction_to_source(level.axis)
        )
        body = depth >= 0
        # Slices thicker than the rim: the one next to an end plate shows the end plate too.
        roi = depth > max(self.erosion_mm, 0.6 * float(spacing.max()) + 1.0)
        ml = float(np.prod(spacing)) / 1000
        centre = grid.to_source(level.centre + np.array([start, 0, 0]))
        extras: dict[str, Any] = {
            "offset": offset,
            "body": body,
            "roi": roi,
            "centre": (float(centre[0]), float(centre[1]), float(centre[2])),
        }
        if body.any():
            extras["heights"] = measure_heights(
                volume[box].float().numpy(),
                body,
                spacing,
                grid.direction_to_source(level.axis),
                grid.direction_to_source(np.array([0.0, 1.0, 0.0])),
            )
        rejection = None
        metal_ml = _metal(volume, body, offset, spacing, self.metal_hu) * ml
        if metal_ml > self.metal_ml:
            rejection = reasons.metal(name, metal_ml)
        elif roi.sum() * ml < 1.0:
            rejection = reasons.region_too_small(name, float(roi.sum() * ml))
        slices = _slices(roi, offset[2], self.max_slices)
        rows, columns = np.flatnonzero(body.any((1, 2))), np.flatnonzero(body.any((0, 2)))
        frame = None
        if rows.size:
            frame = (
                int(offset[1] + columns[0]),
                int(offset[0] + rows[0]),
                int(np.ptp(columns) + 1),
                int(np.ptp(rows) + 1),
            )
        return Target(
            name=name, anatomy=code, box=frame, slices=slices, extras=extras, rejection=rejection
        )


def _body_mask(
    level: Level, body: npt.NDArray[np.float32], grid: RasGrid, start: int, shape: Sequence[int]
) -> tuple[npt.NDArray[np.bool_], tuple[int, int, int]]:
    """The body at the source's resolution: probability above one half, between its two discs."""
    reach = 40.0 / GRID_MM
    corners = np.array(list(product(*zip(level.centre - reach, level.centre + reach, strict=True))))
    source = grid.to_source(corners + np.array([start, 0, 0]))
    low = np.clip(np.floor(source.min(0)), 0, np.array(shape) - 1).astype(int)
    high = np.clip(np.ceil(source.max(0)), 0, np.array(shape) - 1).astype(int) + 1
    points = grid.from_source(low, high)
    points[0] -= start
    chance = ndimage.map_coordinates(body, points, order=1, mode="nearest")
    height = np.tensordot(level.axis, points - level.centre[:, None, None, None], axes=(0, 0))
    mask = (chance > 0.5) & (height > level.low) & (height < level.high)
    labelled, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(labelled.ravel())
        sizes[0] = 0
        mask = labelled == int(sizes.argmax())
    mask = ndimage.binary_fill_holes(mask)
    # From (X, Y, Z) to the source's (row, column, slice).
    turned = np.transpose(mask, np.argsort(grid.order))
    return turned, (int(low[0]), int(low[1]), int(low[2]))


def _extents(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]] | None:
    """First and last index of a mask along each axis; None when it is empty."""
    found = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        if not used.size:
            return None
        found.append((int(used[0]), int(used[-1])))
    return found


def _around(mask: npt.NDArray[np.bool_], spacing: npt.NDArray[np.float64]) -> tuple[slice, ...]:
    """The mask's box and what the surface's fit may look at beyond it; all when it is empty."""
    extents = _extents(mask) or [(0, size - 1) for size in mask.shape]
    margins = np.ceil(_MARGIN_MM / spacing).astype(int)
    return tuple(
        slice(max(0, first - int(margin)), last + int(margin) + 1)
        for (first, last), margin in zip(extents, margins, strict=True)
    )


def _metal(
    volume: Tensor,
    body: npt.NDArray[np.bool_],
    offset: tuple[int, int, int],
    spacing: npt.NDArray[np.float64],
    limit: float,
) -> float:
    """Voxels above `limit` within 15 mm of the body's box."""
    extents = _extents(body)
    if extents is None:
        return 0.0
    box = []
    for axis, (low, high) in enumerate(extents):
        margin = round((15.0 if axis < 2 else 3.0) / spacing[axis])
        box.append(slice(max(0, offset[axis] + low - margin), offset[axis] + high + margin + 1))
    return float((volume[tuple(box)] > limit).sum())


def _slices(roi: npt.NDArray[np.bool_], first: int, most: int) -> tuple[int, ...]:
    """Images through the middle of the region: where its area is at least 60 % of the largest."""
    area = roi.sum((0, 1))
    if not area.any():
        return ()
    good = np.flatnonzero(area >= 0.6 * area.max())
    if good.size > most:
        good = good[np.unique(np.linspace(0, good.size - 1, most).round().astype(int))]
    return tuple(int(first + k) for k in good)


def _enhanced_share(
    grid: RasGrid, levels: Mapping[str, Level], shift: npt.NDArray[np.int64]
) -> float:
    """Share of voxels like enhanced blood (110 to 450 HU) where aorta and vena cava lie.

    Unenhanced blood has 30 to 60 HU; the two vessels fill about a quarter to a half of the box
    in front of the body (±26 mm wide, 30 mm deep).
    """
    shares = []
    for name in ("L2", "L3", "L4"):
        level = levels.get(name)
        if level is None:
            continue
        x, y, z = np.round(level.centre + shift).astype(int)
        front = y + round(20 / GRID_MM)
        part = grid.data[
            max(0, x - round(26 / GRID_MM)) : x + round(26 / GRID_MM) + 1,
            front : front + round(30 / GRID_MM),
            max(0, z - 2) : z + 3,
        ]
        if part.numel():
            shares.append(float(((part > 110) & (part < 450)).float().mean()))
    return float(np.mean(shares)) if shares else 0.0
