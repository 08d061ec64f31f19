"""Images brought to a network's grid by a Lanczos filter: what they show, as sharp as the grid can.

MONAI's `Resized` smooths with a Gaussian and then interpolates linearly. A joint that was reduced
so is less sharp than one that came at this grid, and a network that learned from such ones more
often gives another answer (model card of the knee grades).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform
from monai.transforms.utils import scale_affine
from PIL import Image
from torch import Tensor


class LanczosResized(MapTransform):  # type: ignore[misc]
    """Resize [C, H, W] images to `spatial_size`, with Pillow's Lanczos filter, on the CPU.

    An image that has this size already is left as it is. A `MetaTensor`'s affine follows. The
    transform has no inverse.

    Args:
        keys: Of the images.
        spatial_size: Rows and columns of the result.
    """

    def __init__(self, keys: KeysCollection, spatial_size: Sequence[int]) -> None:
        super().__init__(keys)
        rows, columns = spatial_size
        self.spatial_size = (int(rows), int(columns))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._resized(out[key])
        return out

    def _resized(self, image: Tensor) -> Tensor:
        before = tuple(image.shape[1:])
        if before == self.spatial_size:
            return image
        made = lanczos(image.as_subclass(Tensor), self.spatial_size)
        if not isinstance(image, MetaTensor):
            return made
        step = to_affine_nd(len(image.affine) - 1, scale_affine(before, self.spatial_size))
        placed = MetaTensor(made, meta=dict(image.meta))
        placed.affine = image.affine @ torch.as_tensor(step, dtype=image.affine.dtype)
        return placed


def lanczos(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [C, H, W] to [C, *size], float32; no value lies outside those of the image.

    The filter reaches over its neighbours at an edge; what it adds there is cut off.
    """
    planes = image.detach().cpu().numpy().astype(np.float32, copy=False)
    resized = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.LANCZOS))
        for plane in planes
    ]
    made = np.stack(resized).clip(planes.min(), planes.max())
    return torch.from_numpy(made).to(image.device)
