"""MONAI's anti-aliased reduction of 2-D images, worked out only where a pixel is kept.

`Resized` with `anti_aliasing` smooths the whole image with a Gaussian and then takes a few of its
pixels. Both steps are linear and separable, so the same result is a product with one narrow
matrix for each axis: the kernels, the interpolation and what lies outside the image are MONAI's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from monai.data import MetaTensor
from monai.networks.layers import gaussian_1d
from monai.transforms import Compose, Resize, Resized
from torch import Tensor

_LINEAR: Final = ("linear", "bilinear")
_ROWS: Final = 16
"""Output rows that are made together: the fewer, the less of their matrix is zero."""


def reduced(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Smooth and reduce as MONAI does: float32 [C, H, W] to [C, h, w].

    Along an axis that grows or stays nothing is smoothed.
    """
    down, across = (axis_matrix(n, m) for n, m in zip(image.shape[1:], size, strict=True))
    short = torch.cat([_banded(rows, image) for rows in torch.split(down, _ROWS)], 1)
    return short @ across.T


def axis_matrix(source: int, target: int) -> Tensor:
    """Return what turns `source` pixels of an axis into `target`: float32 [target, source].

    MONAI's Gaussian of standard deviation (source / target - 1) / 2, 0 outside the image, then
    linear interpolation between pixel centres (`align_corners=False`).
    """
    # in float32 as MONAI and PyTorch work it out: the kernel's length and the shares hang on it
    factor = torch.tensor(float(source)) / torch.tensor(float(target))
    kernel = gaussian_1d(torch.clamp((factor - 1) / 2, min=0))
    tail = len(kernel) // 2
    places = ((torch.arange(target) + 0.5).double() * factor.double() - 0.5).clamp(0).float()
    first = places.floor().long().clamp(max=source - 1)
    share = places - first
    matrix = torch.zeros(target, source + 2 * tail)
    for neighbour, weight in ((first, 1 - share), ((first + 1).clamp(max=source - 1), share)):
        columns = neighbour[:, None] + torch.arange(2 * tail + 1)
        matrix.scatter_add_(1, columns, weight[:, None] * kernel)
    return matrix[:, tail : tail + source]


def _banded(rows: Tensor, image: Tensor) -> Tensor:
    """Multiply with rows of a matrix that are zero but for a narrow band."""
    used = rows.abs().amax(0).nonzero()[:, 0]
    first, last = int(used[0]), int(used[-1]) + 1
    return rows[:, first:last] @ image[:, first:last]


class QuickResize(Resize):
    """MONAI's `Resize`; an anti-aliased reduction on the CPU takes the short way."""

    # as MONAI's own Resize overrides it
    def __call__(self, img: Tensor, *args: Any, **options: Any) -> Tensor:  # type: ignore[override]
        if args or not _fits(img, options):
            return super().__call__(img, *args, **options)
        # MONAI resizes an image of nothing, for the size, the affine and the record of it
        plain = img.as_subclass(Tensor)
        empty = plain.new_zeros(()).expand(plain.shape)
        if isinstance(img, MetaTensor):
            empty = MetaTensor(empty, meta=img.meta, applied_operations=img.applied_operations)
        made = super().__call__(empty, **{**options, "anti_aliasing": False})
        height, width = made.shape[1:]
        if (height, width) == tuple(plain.shape[1:]):
            return super().__call__(img, **options)
        made.as_subclass(Tensor).copy_(reduced(plain, (height, width)))
        return made


def _fits(img: Tensor, options: dict[str, Any]) -> bool:
    return (
        bool(options.get("anti_aliasing"))
        and options.get("anti_aliasing_sigma") is None
        and not options.get("align_corners")
        and not options.get("lazy")
        and options.get("mode") in _LINEAR
        and img.ndim == 3
        and img.device.type == "cpu"
        and img.dtype == torch.float32
        and not getattr(img, "pending_operations", None)
    )


def take_the_short_way(transform: Any) -> int:
    """Put `QuickResize` into each `Resized` of a composed transform; returns how many."""
    changed = 0
    for resized in _resizings(transform):
        old = resized.resizer
        resized.resizer = QuickResize(old.spatial_size, old.size_mode, lazy=old.lazy)
        changed += 1
    return changed


def _resizings(transform: Any) -> Iterator[Resized]:
    if type(transform) is Resized:
        yield transform
    elif isinstance(transform, Compose):
        for part in transform.transforms:
            yield from _resizings(part)
