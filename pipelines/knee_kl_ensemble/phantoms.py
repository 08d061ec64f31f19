"""Phantom knees as training images: crops like the published ones, with the grade put in."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.knee_kl_ensemble.data import Knees
from pipelines.phantoms.knee import Joint, KneePhantom, knee_radiograph

SEEDS: Final = 100_000
"""Training phantoms have seeds from here on; demonstration and tests use smaller ones."""


def phantom_knees(number: int, seed: int, size: int = 224) -> Knees:
    """Make phantom crops, right knees and left ones mirrored, grades in turn."""
    rng = np.random.default_rng(seed)
    images, grades = [], []
    for index in range(number):
        side = "RL"[index % 2]
        grade = index // 2 % 5
        made = knee_radiograph(SEEDS + index, grade, side, spacing_mm=0.4)
        crop = phantom_crop(made, made.joints[0], size, jitter=rng)
        images.append(crop[:, ::-1] if side == "L" else crop)
        grades.append(grade)
    files = tuple(f"phantom/{SEEDS + index}" for index in range(number))
    return Knees(np.stack(images), np.array(grades), files, ("R",) * number)


def phantom_crop(
    made: KneePhantom, joint: Joint, size: int, jitter: np.random.Generator | None = None
) -> np.ndarray:
    """Cut a joint out of a phantom as the published crops are cut: uint8 [size, size]."""
    row, column, side = joint.crop
    if jitter is not None:
        row += jitter.normal(0, 0.025) * side
        column += jitter.normal(0, 0.025) * side
        side *= float(np.exp(jitter.normal(0, 0.06)))
    height, width = made.image.shape
    theta = torch.tensor(
        [
            [side / width, 0, 2 * column / width - 1],
            [0, side / height, 2 * row / height - 1],
        ],
        dtype=torch.float32,
    )
    grid = F.affine_grid(theta[None], [1, 1, size, size], align_corners=False)
    image = torch.from_numpy(made.image.astype(np.float32) / 4095)[None, None]
    cut = F.grid_sample(image, grid, align_corners=False)[0, 0]
    return (cut.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
