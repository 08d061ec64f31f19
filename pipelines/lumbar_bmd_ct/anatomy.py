"""Labelled CT to learn from: real volumes on disk and phantoms, in one form."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

from pipelines.phantoms.lumbar import lumbar_ct
from pipelines.phantoms.lumbar_spine import LEVELS

_TOTALSEGMENTATOR: Final = {
    26: "S1",
    27: "L5",
    28: "L4",
    29: "L3",
    30: "L2",
    31: "L1",
    32: "T12",
    33: "T11",
    34: "T10",
    35: "T9",
    36: "T8",
}
_TPTBOX: Final = {24: "L5", 23: "L4", 22: "L3", 21: "L2", 20: "L1", 19: "T12", 18: "T11"}
_TPTBOX_BODY: Final = (49, 50)


@dataclass(frozen=True)
class Anatomy:
    """A CT with its vertebral bodies named.

    Attributes:
        hu: float32 [H, W, D], rows to the back, columns to the left, slices to the head.
        spacing: (row, column, slice) in mm.
        labels: uint8, index in `LEVELS` + 1 inside each body.
        real: False for a phantom.
        bmd: Known BMD in mg/cm³ by level: a phantom's, or what a site measured; else empty.
    """

    name: str
    hu: npt.NDArray[np.float32]
    spacing: tuple[float, float, float]
    labels: npt.NDArray[np.uint8]
    real: bool
    bmd: dict[str, float]

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """Voxel index to RAS mm, up to a translation."""
        affine = np.zeros((4, 4))
        affine[1, 0], affine[0, 1], affine[2, 2], affine[3, 3] = (
            -self.spacing[0],
            -self.spacing[1],
            self.spacing[2],
            1.0,
        )
        return affine


def load_folder(folder: Path) -> list[Anatomy]:
    """Every labelled CT below `folder`, in either of two layouts.

    `ct.nii.gz`, `segmentation.nii.gz` (TotalSegmentator numbering) and `vertebral_bodies.nii.gz`
    in one folder; or BIDS-like `*_ct.nii.gz` with `*seg-vert*` and `*seg-subreg*` masks (TPTBox).
    A `bmd.csv` beside them (`level,bmd_mg_cm3`, one line a vertebra) gives measured BMD.

    Raises:
        FileNotFoundError: Nothing of either layout is there.
    """
    found: list[Anatomy] = []
    for file in sorted(folder.rglob("ct.nii.gz")):
        vertebrae = _load(file.with_name("segmentation.nii.gz"), file)
        bodies = _load(file.with_name("vertebral_bodies.nii.gz"), file) > 0
        found.append(_anatomy(file.parent.name, file, vertebrae, bodies, _TOTALSEGMENTATOR))
    for file in sorted(folder.rglob("*_ct.nii.gz")):
        vert = _load(next(file.parent.glob("*seg-vert*.nii.gz")), file)
        subregion = _load(next(file.parent.glob("*seg-subreg*.nii.gz")), file)
        bodies = np.isin(subregion, _TPTBOX_BODY)
        found.append(_anatomy(file.parent.name, file, vert, bodies, _TPTBOX))
    if not found:
        raise FileNotFoundError(f"no labelled CT (ct.nii.gz with its masks) below {folder}")
    return found


def phantom_anatomies(
    seeds: range, spacing: tuple[float, float, float] = (2.4, 2.4, 3.0), size: int = 150
) -> Iterator[Anatomy]:
    """Phantoms of all sorts: habitus, curve, range of slices, BMD, noise, kernel."""
    for seed in seeds:
        rng = np.random.default_rng(10_000 + seed)
        phantom = lumbar_ct(
            seed,
            bmd_mg_cm3=float(rng.uniform(35, 210)),
            spacing=spacing,
            size=size,
            slices=int(rng.integers(88, 112)),
            bottom_mm=float(rng.uniform(-80, -45)),
            noise_hu=float(rng.uniform(5, 18)),
            kernel_mm=float(rng.uniform(0.3, 1.0)),
            enhancement_hu=float(rng.choice([0.0, 0.0, 0.0, 60.0])),
            table=bool(rng.random() < 0.8),
        )
        yield Anatomy(
            f"phantom-{seed}",
            phantom.volume.astype(np.float32),
            spacing,
            phantom.truth.labels,
            False,
            dict(phantom.truth.bmd),
        )


def body_names(anatomy: Anatomy) -> dict[str, int]:
    """Levels present, with their label."""
    present = np.unique(anatomy.labels)
    return {LEVELS[int(v) - 1]: int(v) for v in present if v}


def disc_mask(
    labels: npt.NDArray[np.uint8], spacing: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    """The spaces between neighbouring bodies."""
    discs = np.zeros(labels.shape, bool)
    present = [int(v) for v in np.unique(labels) if v]
    for below, above in pairwise(present):
        if above != below + 1:
            continue
        pair = np.isin(labels, (below, above))
        corner = [
            slice(max(0, s.start - 4), s.stop + 4)
            for s in ndimage.find_objects(pair.astype(np.uint8))[0]
        ]
        part = labels[tuple(corner)]
        reach = ndimage.distance_transform_edt(part != below, spacing)
        reach = reach + ndimage.distance_transform_edt(part != above, spacing)
        free = part == 0
        discs[tuple(corner)] |= free & (reach <= np.percentile(reach[free], 0.3) + 5.0)
    return discs


def _load(file: Path, reference: Path) -> npt.NDArray[np.int64]:
    image = _oriented(nib.load(file))
    if image.shape != _oriented(nib.load(reference)).shape:
        raise ValueError(f"{file.name} and {reference.name} differ in size")
    return np.rint(np.asarray(image.dataobj)).astype(np.int64)


def _oriented(image: nib.Nifti1Image) -> nib.Nifti1Image:
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(("P", "L", "S")))
    return image.as_reoriented(turn)


def _anatomy(
    name: str,
    file: Path,
    vertebrae: npt.NDArray[np.int64],
    bodies: npt.NDArray[np.bool_],
    numbering: dict[int, str],
) -> Anatomy:
    image = _oriented(nib.load(file))
    labels = np.zeros(vertebrae.shape, np.uint8)
    for value, level in numbering.items():
        labels[(vertebrae == value) & bodies] = LEVELS.index(level) + 1
    zooms = image.header.get_zooms()
    return Anatomy(
        name,
        np.asarray(image.get_fdata(), np.float32),
        (float(zooms[0]), float(zooms[1]), float(zooms[2])),
        labels,
        True,
        _measured(file.with_name("bmd.csv")),
    )


def _measured(file: Path) -> dict[str, float]:
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        return {row["level"].strip(): float(row["bmd_mg_cm3"]) for row in csv.DictReader(lines)}
