"""Images and labels: a site's own folder, or simulated hips and images that are no AP hip."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

from dicom_node.inference.files import read_file
from dicom_node.inference.radiograph import read_radiograph
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.hip_other_metal import UNSEEN_METAL
from pipelines.phantoms.knee import knee_radiograph
from pipelines.phantoms.no_hip import no_hip

SIZE: Final = 256
CATALOGUE: Final = Path(__file__).with_name("catalogue.yaml")
NOT_AP: Final = "not_ap"
AFTER_THE_CATALOGUE: Final = ("none", "other", NOT_AP)
"""No device; metal that is not in the catalogue; not an AP view of the hip."""
_SPACING: Final = 1.0
_ROTATED, _FROG, _DRAWN, _KNEE = 0.15, 0.3, 0.65, 0.8
_TEXTURED: Final = 0.4
_CLIPPED: Final = 0.25
"""Share of the hips without a device that hold staples, clips or beads."""

Labels = npt.NDArray[np.int64]


def labels_of(catalogue: Path = CATALOGUE) -> tuple[str, ...]:
    """Return the keys in the network's output order: the catalogue's, none, other, not_ap.

    Raises:
        ValueError: A key is missing, is used twice, or is one of the three last.
    """
    devices = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["devices"]
    keys = [str(device["key"]) for device in devices]
    if len(set(keys) | set(AFTER_THE_CATALOGUE)) != len(keys) + len(AFTER_THE_CATALOGUE):
        raise ValueError(f"{catalogue}: a key is used twice, or is one of none, other, not_ap")
    return (*keys, *AFTER_THE_CATALOGUE)


LABELS: Final = labels_of()


def read_folder(
    folder: Path, labels: Sequence[str], split: str | None = None
) -> tuple[Tensor, Labels]:
    """Read a site's images of a split: `labels.csv` with `file`, `label` and, if used, `split`.

    The images are DICOM (read as the node reads them), or 8- or 16-bit grey (PNG, TIFF, JPEG) with
    bright bone; one hip each.

    Raises:
        ValueError: A label is not in `labels`, or there is no row.
        ImageError: A DICOM file holds no image that can be read.
    """
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if split is None or r.get("split", split) == split]
    unknown = sorted({row["label"] for row in rows} - set(labels))
    if unknown or not rows:
        why = f"not in the catalogue: {', '.join(unknown)}" if unknown else f"no row of {split!r}"
        raise ValueError(f"{folder / 'labels.csv'}: {why}")
    images = [to_input(read_image(folder / row["file"])) for row in rows]
    return torch.stack(images), np.array([labels.index(row["label"]) for row in rows])


def folder_images(folder: Path) -> Tensor:
    """Read the images of a folder: those its `labels.csv` has as test, or every image file.

    Raises:
        ValueError: There is none.
    """
    table = folder / "labels.csv"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if r.get("split", "test") == "test"]
        files = [folder / row["file"] for row in rows]
    else:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise ValueError(f"{folder} holds no image")
    return torch.stack([to_input(_grey(file)) for file in files])


def simulated(
    number: int,
    seed: int,
    real: Sequence[Path] = (),
    *,
    extra: Mapping[str, int] | None = None,
) -> tuple[Tensor, Labels]:
    """Make images [N, 1, 256, 256] in 0..1 and their labels' indices in `LABELS`.

    Args:
        real: Real images that show no hip; they join what is made for the last label, and their
            fine texture is laid over a part of the simulated hips.
        extra: So many more images of a label: other metal and no AP hip have the most faces.
    """
    rng = np.random.default_rng(seed)
    wanted = [n % len(LABELS) for n in range(number)]
    for label, more in (extra or {}).items():
        wanted += [LABELS.index(label)] * more
    images = [
        _image(LABELS[label], seed * 1_000_003 + n, rng, real) for n, label in enumerate(wanted)
    ]
    return torch.stack(images), np.array(wanted)


def unseen(number: int, seed: int) -> tuple[Tensor, list[str]]:
    """Make AP hips with metal of kinds that no training sees, and the kinds' names."""
    rng = np.random.default_rng(seed)
    kinds = [list(UNSEEN_METAL)[n % len(UNSEEN_METAL)] for n in range(number)]
    images = [_image(kind, seed * 1_000_003 + n, rng, ()) for n, kind in enumerate(kinds)]
    return torch.stack(images), kinds


def to_input(pixels: npt.NDArray[np.floating]) -> Tensor:
    """Scale an image [H, W] in 0..1 to the network's [1, 256, 256]."""
    found = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None, None],
        (SIZE, SIZE),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    return found[0]


def _image(label: str, seed: int, rng: np.random.Generator, others: Sequence[Path]) -> Tensor:
    side = "RL"[int(rng.integers(2))]
    if label == NOT_AP:
        return _not_ap(seed, side, rng, others)
    if label == "none" and rng.random() < _CLIPPED:
        label = "small_metal"
    made = hip_radiograph(
        seed,
        label,
        side,
        height_mm=rng.uniform(285, 370),
        width_mm=rng.uniform(220, 290),
        spacing_mm=_SPACING,
        marker=bool(rng.random() < 0.7),
    )
    image = to_input(made.image / 4095)
    if others and rng.random() < _TEXTURED:
        image = with_texture(image, _grey(others[int(rng.integers(len(others)))]), rng)
    return image


def with_texture(image: Tensor, real: npt.NDArray[np.float32], rng: np.random.Generator) -> Tensor:
    """Lay the fine structure of a real radiograph [H, W] over an image [1, 256, 256]."""
    turned = np.rot90(real, int(rng.integers(4)))
    height, width = turned.shape
    side = int(min(height, width) * rng.uniform(0.6, 1))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    fine = to_input(turned[top : top + side, left : left + side].astype(np.float32))
    fine = fine - F.avg_pool2d(fine[None], 9, 1, 4, count_include_pad=False)[0]
    # edges of the real bone are cut to the strength of its trabeculae
    strength = float(fine.abs().median()) * 3 + 1e-4
    fine = fine.clamp(-strength, strength) / strength * float(rng.uniform(0.005, 0.03))
    return (image + fine * (image > 0.08)).clamp(0, 1)


def _not_ap(seed: int, side: str, rng: np.random.Generator, others: Sequence[Path]) -> Tensor:
    kind = rng.random()
    device = str(rng.choice(LABELS[:-1]))
    if kind < _ROTATED:
        lying = hip_radiograph(seed, device, side, spacing_mm=_SPACING).image / 4095
        return to_input(np.rot90(lying, int(rng.integers(1, 4))))
    if kind < _FROG:
        device = "none" if rng.random() < 0.6 else device
        return to_input(
            hip_radiograph(seed, device, side, "FROG", spacing_mm=_SPACING).image / 4095
        )
    if kind < _DRAWN:
        return torch.from_numpy(no_hip(seed, SIZE))[None]
    if kind < _KNEE or not others:
        left = 2 if rng.random() < 0.4 else None
        knee = knee_radiograph(
            seed, int(rng.integers(5)), side, left_grade=left, spacing_mm=_SPACING
        )
        return to_input(knee.image / 4095)
    return to_input(_grey(others[int(rng.integers(len(others)))]))


def read_image(file: Path) -> npt.NDArray[np.float32]:
    """Return an image [H, W] in 0..1: DICOM by its preamble (PS3.10 7.1), else a picture."""
    with file.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return _grey(file)
    return read_radiograph(read_file(file))[0].pixels


def _grey(file: Path) -> npt.NDArray[np.float32]:
    with Image.open(file) as image:
        deep = image.mode.startswith(("I", "F"))
        values = np.asarray(image if deep else image.convert("L"), np.float32)
    return values / (65535 if deep else 255)
