"""Images and labels: a site's own folder, or simulated hips and images that are no AP hip."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.knee import knee_radiograph
from pipelines.phantoms.no_hip import no_hip

SIZE: Final = 256
CATALOGUE: Final = Path(__file__).with_name("catalogue.yaml")
NOT_AP: Final = "not_ap"
AFTER_THE_CATALOGUE: Final = ("none", "other", NOT_AP)
"""No device; metal that is not in the catalogue; not an AP view of the hip."""
_SPACING: Final = 1.0
_ROTATED, _FROG, _DRAWN, _KNEE = 0.15, 0.3, 0.65, 0.8

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

    The images are 8- or 16-bit grey (PNG, TIFF, JPEG), bright bone, one hip each.

    Raises:
        ValueError: A label is not in `labels`, or there is no row.
    """
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if split is None or r.get("split", split) == split]
    unknown = sorted({row["label"] for row in rows} - set(labels))
    if unknown or not rows:
        why = f"not in the catalogue: {', '.join(unknown)}" if unknown else f"no row of {split!r}"
        raise ValueError(f"{folder / 'labels.csv'}: {why}")
    images = [to_input(_grey(folder / row["file"])) for row in rows]
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
    number: int, seed: int, others: Sequence[Path] = (), *, extra_not_ap: int = 0
) -> tuple[Tensor, Labels]:
    """Make images [N, 1, 256, 256] in 0..1 and their labels' indices in `LABELS`.

    Args:
        others: Real images that show no hip; they join what is made for the last label.
        extra_not_ap: So many more images of the last label: it has the most faces.
    """
    rng = np.random.default_rng(seed)
    wanted = [n % len(LABELS) for n in range(number)] + [len(LABELS) - 1] * extra_not_ap
    images = [
        _image(LABELS[label], seed * 1_000_003 + n, rng, others) for n, label in enumerate(wanted)
    ]
    return torch.stack(images), np.array(wanted)


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
    made = hip_radiograph(
        seed,
        label,
        side,
        height_mm=rng.uniform(285, 370),
        width_mm=rng.uniform(220, 290),
        spacing_mm=_SPACING,
        marker=bool(rng.random() < 0.7),
    )
    return to_input(made.image / 4095)


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


def _grey(file: Path) -> npt.NDArray[np.float32]:
    with Image.open(file) as image:
        deep = image.mode.startswith(("I", "F"))
        values = np.asarray(image if deep else image.convert("L"), np.float32)
    return values / (65535 if deep else 255)
