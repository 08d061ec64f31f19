"""Small phantoms and a finder that knows the truth, shared by the lumbar tests."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from pipelines.lumbar_bmd_ct.anatomy import disc_mask
from pipelines.phantoms.lumbar import Phantom, lumbar_ct
from pipelines.transforms.lumbar_grid import ras_grid
from pipelines.transforms.lumbar_locator import GRID_MM

COARSE = {"spacing": (2.4, 2.4, 3.0), "size": 160, "slices": 100}


@cache
def phantom(seed: int = 3, bmd: float = 110.0, **changes: object) -> Phantom:
    """A phantom at 2.4 mm; keyword arguments as of `lumbar_ct`."""
    return lumbar_ct(seed, bmd, **{**COARSE, **changes})  # type: ignore[arg-type]


def image_of(made: Phantom) -> MetaTensor:
    """[1, H, W, D] in HU with its affine, as the engine gives it."""
    return MetaTensor(
        torch.from_numpy(made.volume.astype(np.float32))[None],
        affine=torch.from_numpy(made.affine),
    )


class TruthFinder:
    """Stands in for the network: the phantom's own masks as probabilities."""

    def __init__(self, made: Phantom) -> None:
        labels = made.truth.labels
        maps = (labels > 1, labels == 1, disc_mask(labels, made.spacing))
        grids = [
            ras_grid(torch.from_numpy(m.astype(np.float32)), made.affine, GRID_MM).data
            for m in maps
        ]
        self.maps = torch.stack(grids)
        self.hu = ras_grid(
            torch.from_numpy(made.volume.astype(np.float32)), made.affine, GRID_MM
        ).data

    def locate(self, volume: Tensor) -> Tensor:
        width = volume.shape[0]
        starts = range(self.hu.shape[0] - width + 1)
        start = min(starts, key=lambda s: float((self.hu[s : s + width] - volume).abs().sum()))
        return self.maps[:, start : start + width]
