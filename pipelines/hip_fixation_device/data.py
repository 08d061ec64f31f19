"""Simulated hips, and images that are no AP hip, for training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.hip_devices import DEVICES
from pipelines.phantoms.knee import knee_radiograph

SIZE: Final = 192
LABELS: Final = (*DEVICES, "none", "other", "not_ap")
"""Output order: the catalogue's devices, no device, other metal, not an AP view of the hip."""


def simulated(
    number: int, seed: int, others: list[Path] | None = None, spacing_mm: float = 1.2
) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Make images [N, 1, 192, 192] in 0..1 and their labels' indices.

    Args:
        others: Real images that show no hip; they join the phantoms of the last label.
    """
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for n in range(number):
        label = n % len(LABELS)
        images.append(_image(LABELS[label], seed * 1_000_003 + n, rng, others, spacing_mm))
        labels.append(label)
    return torch.stack(images), np.array(labels)


def to_input(pixels: npt.NDArray[np.floating]) -> Tensor:
    """Scale an image [H, W] in 0..1 to the network's [1, 192, 192]."""
    found = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None, None],
        (SIZE, SIZE),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    return found[0]


def _image(
    label: str, seed: int, rng: np.random.Generator, others: list[Path] | None, spacing: float
) -> Tensor:
    side = "RL"[int(rng.integers(2))]
    if label != "not_ap":
        made = hip_radiograph(
            seed,
            label,
            side,
            height_mm=rng.uniform(260, 360),
            width_mm=rng.uniform(220, 290),
            spacing_mm=spacing,
            marker=bool(rng.random() < 0.7),
        )
        return to_input(made.image / 4095)
    kind = rng.random()
    if kind < 0.35:
        device = str(rng.choice(["none", "none", "blade_nail", "sliding_screw"]))
        frog = hip_radiograph(seed, device, side, "FROG", spacing_mm=spacing)
        return to_input(frog.image / 4095)
    if kind < 0.6 or not others:
        both = rng.random() < 0.4
        knee = knee_radiograph(
            seed, int(rng.integers(5)), side, left_grade=2 if both else None, spacing_mm=spacing
        )
        return to_input(knee.image / 4095)
    file = others[int(rng.integers(len(others)))]
    return to_input(np.asarray(Image.open(file).convert("L"), np.float32) / 255)
