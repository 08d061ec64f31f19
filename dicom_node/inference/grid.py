"""Where the source's voxels lie, and those of the image that the network saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor

from dicom_node.model.findings import ImageReference

Affine = npt.NDArray[np.float64]
"""4×4, voxel index (row, column, slice) to mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The grids of one source.

    Attributes:
        affine: Of a volume, voxel index (row, column, slice) to RAS mm; None: a radiograph.
        references: The source's images; of a volume one for each slice.
        seen: What `affine` is for the image after preprocessing; of a radiograph to pixels of
            the crop.
    """

    affine: Affine | None
    references: tuple[ImageReference, ...]
    seen: Affine | None

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        if self.affine is None:
            raise ValueError("a radiograph has no voxels")
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


def affine_of(image: Any) -> Affine | None:
    """Return the affine that an image carries."""
    if not isinstance(image, MetaTensor):
        return None
    return np.asarray(image.affine.detach().cpu(), np.float64)
