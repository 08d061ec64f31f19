"""CT phantoms with a known truth, in any orientation: the bright thing's place is known in mm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import FileDataset

from dicom_node.demo.phantom_studies import ct_study

Inside = Callable[[np.ndarray], np.ndarray]
"""From points [..., 3] in mm, from the middle of the phantom, to whether they are inside."""


@dataclass(frozen=True)
class Phantom:
    """A series and what is true of it.

    Attributes:
        truth: [H, W] mask of each slice by SOP Instance UID.
        voxel_ml: Volume of a voxel.
    """

    slices: Sequence[FileDataset]
    truth: Mapping[str, np.ndarray]
    voxel_ml: float

    @property
    def ml(self) -> float:
        return float(sum(mask.sum() for mask in self.truth.values())) * self.voxel_ml


def sphere(radius: float, at: Sequence[float] = (0, 0, 0)) -> Inside:
    return lambda points: ((points - np.array(at)) ** 2).sum(-1) <= radius**2


def cuboid(size: Sequence[float], at: Sequence[float] = (0, 0, 0)) -> Inside:
    half = np.array(size) / 2
    return lambda points: (np.abs(points - np.array(at)) < half).all(-1)


def phantom(
    inside: Inside,
    key: str,
    *,
    shape: tuple[int, int, int] = (64, 56, 30),
    spacing: tuple[float, float, float] = (1.2, 1.4, 2.5),
    tilt: float = 0.0,
    reversed_numbers: bool = False,
    feet_first_stack: bool = False,
    hu: tuple[int, int] = (150, -20),
) -> Phantom:
    """Make a CT series of something bright.

    Args:
        inside: What is bright; its coordinates are the patient's (x left, y back, z head).
        shape: (rows, columns, slices); spacing: (row, column, slice) in mm.
        tilt: Degrees by which the slices are turned about the x axis (an oblique series).
        reversed_numbers: Instance Numbers run from head to feet.
        feet_first_stack: The rows run upwards and the normal points to the feet.
        hu: Inside and outside.
    """
    angle = np.deg2rad(tilt)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    across, down = turn @ [1.0, 0, 0], turn @ [0, 1.0, 0]
    if feet_first_stack:
        down = -down
    normal = turn @ [0, 0, 1.0]
    middle = (np.array(shape) - 1) / 2
    rows, columns, depth = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    place = (
        (rows - middle[0])[..., None] * spacing[0] * down
        + (columns - middle[1])[..., None] * spacing[1] * across
        + (depth - middle[2])[..., None] * spacing[2] * normal
    )
    mask = inside(place)
    volume = np.where(mask, hu[0], hu[1]).astype(np.int16)
    slices = ct_study(volume, spacing, key=key, body_part="ABDOMEN", description="phantom")
    for number, dataset in enumerate(slices):
        dataset.ImageOrientationPatient = [round(float(v), 6) for v in (*across, *down)]
        dataset.ImagePositionPatient = [round(float(v), 4) for v in place[0, 0, number]]
        if reversed_numbers:
            dataset.InstanceNumber = len(slices) - number
    truth = {str(d.SOPInstanceUID): mask[:, :, n] for n, d in enumerate(slices)}
    return Phantom(slices, truth, float(np.prod(spacing)) / 1000)
