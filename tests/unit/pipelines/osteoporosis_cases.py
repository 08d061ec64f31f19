"""Simulated knees with and without "osteoporosis": a texture that only the tests mean by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from pipelines.osteoporosis.data import UNKNOWN, Joints
from pipelines.phantoms.knee import knee_radiograph


def simulated(number: int, *, strength: float = 60, pairs: bool = False, side: int = 80) -> Joints:
    """Smooth images, every second one with vertical lines in its middle."""
    rng = np.random.default_rng(5)
    images = ndimage.gaussian_filter(rng.normal(0, 1, (number, side, side)), (0, 6, 6))
    images = 128 + 40 * images / images.std((1, 2), keepdims=True)
    images += rng.normal(0, 6, images.shape)
    two = np.arange(number) // (2 if pairs else 1) % 2
    lines = strength * (np.arange(side) % 8 < 3)
    middle = slice(side // 4, -side // 4)
    images[two == 1, middle, middle] += lines[middle]
    groups = np.arange(number) // 2 if pairs else np.arange(number)
    return Joints(
        images.clip(0, 255).astype(np.uint8), two, np.full(number, UNKNOWN), groups,
        ("",) * number, np.zeros((number, 2), np.int64),
    )  # fmt: skip


def radiographs(folder: Path, number: int) -> Path:
    """Full-frame phantoms with labels in the published table's columns; one shows no knee."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file,kaggle_class,wani_class,side"]
    labels = ("normal,normal", "osteoporosis,", "normal,osteopenia", "osteoporosis,osteoporosis")
    for n in range(number):
        made = knee_radiograph(300 + n, n % 3, "RL"[n % 2], spacing_mm=0.8)
        pixels = (made.image / 4095 * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
        rows.append(f"{n}.png,{labels[n % 4]},{'RL'[n % 2]}")
    Image.fromarray(np.full((90, 90), 7, np.uint8)).save(folder / "blank.png")
    rows.append("blank.png,normal,,")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder
