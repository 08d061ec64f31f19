"""Axial images through a vertebra for the CNN, and the CNN's numbers to results."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional

from dicom_node.model.targets import Rejection, Target
from pipelines.transforms import lumbar_reasons as reasons
from pipelines.transforms.lumbar_grid import axes_of
from pipelines.transforms.lumbar_hu import SLOPE, bmd_of_hu

PIXEL_MM: Final = 1.25
SIZE: Final = 80
SLAB_MM: Final = 4.0


def axial_crop(
    volume: Tensor,
    affine: npt.NDArray[np.float64],
    centre: tuple[float, float],
    index: int,
    pixel_mm: float = PIXEL_MM,
    size: int = SIZE,
    slab_mm: float = SLAB_MM,
    fill: float = -1000.0,
) -> Tensor:
    """One image [1, size, size] in HU, rows to the back, columns to the patient's left.

    Args:
        volume: [H, W, D], slices along the last axis.
        centre: (row, column) in source pixels of the crop's middle.
        index: Slice; thinner neighbours within `slab_mm` are averaged with it.
        fill: What lies outside the image.
    """
    order, flipped = axes_of(affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    reach = int((slab_mm / 2) / spacing[2])
    slab = volume[..., max(0, index - reach) : index + reach + 1].float().mean(-1) - fill
    ticks = (torch.arange(2 * size, dtype=torch.float32) - (2 * size - 1) / 2) * pixel_mm / 2
    back = ticks * (1.0 if flipped[1] else -1.0) / float(spacing[order[1]])
    left = ticks * (1.0 if flipped[0] else -1.0) / float(spacing[order[0]])
    where = {order[1]: back[:, None] + centre[order[1]], order[0]: left[None, :] + centre[order[0]]}
    rows, columns = torch.broadcast_tensors(where[0], where[1])
    height, width = slab.shape
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    fine = functional.grid_sample(
        slab[None, None], grid[None], align_corners=False, padding_mode="zeros"
    )
    return functional.avg_pool2d(fine, 2)[0] + fill


class LumbarSlicesd(MapTransform):  # type: ignore[misc]
    """The volume and a target to a stack of axial images [N, 1, size, size] in HU.

    Sets `batched`, and `hu`, `hu_sd`, `roi_ml`: mean and standard deviation of the trabecular
    region's HU and its volume, as the check that a reader can follow.
    """

    def __init__(
        self,
        keys: Hashable = "image",
        pixel_mm: float = PIXEL_MM,
        size: int = SIZE,
        slab_mm: float = SLAB_MM,
    ) -> None:
        super().__init__(keys)
        self.pixel_mm = pixel_mm
        self.size = size
        self.slab_mm = slab_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        target: Target = out["target"]
        image = out["image"]
        affine = np.asarray(image.affine, np.float64)
        volume = image.as_subclass(Tensor)[0].cpu()
        body, roi = target.extras["body"], target.extras["roi"]
        offset = target.extras["offset"]
        part = volume[tuple(slice(o, o + n) for o, n in zip(offset, roi.shape, strict=True))]
        values = part.numpy()[roi]
        out["hu"] = float(values.mean()) if values.size else float("nan")
        out["hu_sd"] = float(values.std()) if values.size else float("nan")
        out["roi_ml"] = float(roi.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
        stack = []
        for index in target.slices:
            rows, columns = np.nonzero(body[:, :, index - offset[2]])
            centre = (float(rows.mean() + offset[0]), float(columns.mean() + offset[1]))
            stack.append(
                axial_crop(volume, affine, centre, index, self.pixel_mm, self.size, self.slab_mm)
            )
        out["image"] = torch.stack(stack) if stack else torch.zeros(0, 1, self.size, self.size)
        out["shape"] = tuple(volume.shape)
        out["batched"] = True
        return out


class LumbarBMDd(MapTransform):  # type: ignore[misc]
    """The CNN's output [N, 2] to `bmd`, `bmd_sd` (mg/cm³), `hu_bmd` and the region's mask.

    `bmd_sd` joins the network's own estimate with the spread between the slices. `roi` is the
    trabecular region on the target's slices, [slices, H, W].

    Args:
        linear: Report the published relation on the region's HU instead of the CNN; `bmd_sd` is
            then the spread of the region's HU, brought to BMD.
        reference: `mean` and `sd` of young adults' BMD (mg/cm³) on the site's own scanner: sets
            `t_score`. Without it there is none: no reference holds for every scanner.

    Raises:
        ValueError: The reference's standard deviation is not positive.
    """

    def __init__(
        self,
        keys: Hashable = "pred",
        sd_factor: float = 1.0,
        linear: bool = False,
        reference: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(keys)
        self.sd_factor = sd_factor
        self.linear = linear
        self.reference = None
        if reference is not None:
            self.reference = (float(reference["mean"]), float(reference["sd"]))
            if self.reference[1] <= 0:
                raise ValueError("the reference population's standard deviation must be positive")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        pred = torch.as_tensor(out["pred"]).detach().float().cpu()
        mean, variance = pred[:, 0], torch.exp(pred[:, 1])
        out["hu_bmd"] = bmd_of_hu(float(out["hu"]))
        if self.linear:
            out["bmd"] = out["hu_bmd"]
            out["bmd_sd"] = SLOPE * float(out["hu_sd"])
        else:
            out["bmd"] = float(mean.mean())
            spread = float(mean.var()) if len(mean) > 1 else 0.0
            out["bmd_sd"] = self.sd_factor * float((variance.mean() + spread) ** 0.5)
        if self.reference is not None:
            young, sd = self.reference
            out["t_score"] = (out["bmd"] - young) / sd
        out["roi"] = roi_on_slices(out["target"], out["shape"])
        return out


def roi_on_slices(target: Target, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """The trabecular region on the target's slices, [slices, H, W], in their order."""
    roi, offset = target.extras["roi"], target.extras["offset"]
    mask = np.zeros((len(target.slices), shape[0], shape[1]), bool)
    rows = slice(offset[0], offset[0] + roi.shape[0])
    columns = slice(offset[1], offset[1] + roi.shape[1])
    for position, index in enumerate(target.slices):
        mask[position, rows, columns] = roi[:, :, index - offset[2]]
    return mask


class PlausibleRegion:
    """Gate: a trabecular mean outside `low` to `high` HU is not bone marrow as CT knows it."""

    def __init__(self, low: float = -80.0, high: float = 400.0) -> None:
        self.low = low
        self.high = high

    def __call__(self, data: Mapping[Hashable, Any]) -> Rejection | None:
        hu = float(data["hu"])
        if self.low <= hu <= self.high:
            return None
        return reasons.implausible(data["target"].name, hu)
