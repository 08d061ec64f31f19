"""Train the joint finder on windows of real crops, real full frames and phantoms.

A window is a joint when the crop around a joint nearly fills it: real crops and phantoms give
those, with known shifts; shifted and mis-sized windows, and windows anywhere in full-frame
radiographs, are not (a few of the latter hold a joint by chance; they do not matter).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pipelines.knee_kl_ensemble.phantoms import SEEDS
from pipelines.networks.knee_finder import WINDOW, KneeFinder
from pipelines.phantoms.knee import knee_radiograph
from pipelines.transforms.knee_search import normalised_window

Windows = tuple[Tensor, Tensor, Tensor]
"""[N, 1, 48, 48]; is a joint [N]; offsets [N, 3]."""


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=Path, required=True, help="folder with labels.csv: crops")
    parser.add_argument("--frames", type=Path, required=True, help="the same: full frames")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    crops = _images(options.crops, 700, rng, split="train", longest=128)
    frames = _images(options.frames, 150, rng, split=None, longest=400)
    phantoms = [_phantom(SEEDS + number) for number in range(60)]
    network = KneeFinder()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, options.steps)
    for step in range(options.steps):
        images, joint, offsets = _batch(rng, crops, frames, phantoms)
        out = network(images)[:, :, 0, 0]
        loss = F.binary_cross_entropy_with_logits(out[:, 0], joint)
        if joint.any():
            near = joint.bool()
            loss = loss + 4 * F.smooth_l1_loss(out[near, 1:], offsets[near], beta=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
    save_file(network.state_dict(), options.out)


def _images(
    root: Path, number: int, rng: np.random.Generator, *, split: str | None, longest: int
) -> list[Tensor]:
    with (root / "labels.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if split is None or r["split"] == split]
    chosen = rng.choice(len(rows), min(number, len(rows)), replace=False)
    found = []
    for index in chosen:
        image = Image.open(root / rows[index]["file"]).convert("L")
        image.thumbnail((longest, longest))
        found.append(torch.from_numpy(np.asarray(image, np.float32) / 255)[None])
    return found


def _phantom(seed: int) -> tuple[Tensor, list[tuple[float, float]], float]:
    """Return a phantom at 1 mm a pixel, the centres (row, column) of its crops and their size."""
    both = seed % 3 == 0
    made = knee_radiograph(
        seed, seed % 5, "RL"[seed % 2], left_grade=seed % 4 if both else None, spacing_mm=0.5
    )
    factor = made.spacing_mm / 1.0
    small = F.interpolate(
        torch.from_numpy(made.image.astype(np.float32) / 4095)[None, None],
        scale_factor=factor,
        mode="bilinear",
        antialias=True,
    )[0]
    joints = [(j.crop[0] * factor, j.crop[1] * factor) for j in made.joints]
    size = float(np.mean([j.crop[2] for j in made.joints])) * factor
    return small, joints, size


def _batch(
    rng: np.random.Generator,
    crops: list[Tensor],
    frames: list[Tensor],
    phantoms: list[tuple[Tensor, list[tuple[float, float]], float]],
    each: int = 48,
) -> Windows:
    windows: list[Tensor] = []
    joint: list[float] = []
    offsets: list[tuple[float, float, float]] = []

    def add(image: Tensor, row: float, column: float, size: float, near: bool) -> None:
        """Cut a window around a joint's crop at (row, column) of `size`, shifted or far off."""
        if near:
            dx, dy, ds = rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), rng.uniform(-0.16, 0.16)
        else:
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 1.0)
            dx, dy, ds = far * np.cos(angle), far * np.sin(angle), rng.uniform(-0.9, 0.9)
            if rng.random() < 0.3:
                dx, dy = rng.uniform(-0.2, 0.2, 2)
                ds = rng.choice([-1, 1]) * rng.uniform(0.45, 1.1)
        side = size * np.exp(-ds)
        windows.append(_cut(image, row - dy * side, column - dx * side, side, rng))
        joint.append(float(near))
        offsets.append((dx, dy, ds))

    for index in rng.integers(len(crops), size=each):
        height, width = crops[index].shape[1:]
        add(crops[index], height / 2, width / 2, height, near=bool(rng.random() < 0.6))
    for index in rng.integers(len(phantoms), size=each):
        image, joints, size = phantoms[index]
        row, column = joints[rng.integers(len(joints))]
        add(image, row, column, size, near=bool(rng.random() < 0.5))
    for index in rng.integers(len(frames), size=each):
        height, width = frames[index].shape[1:]
        size = min(height, width) * rng.uniform(0.15, 1.0)
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        windows.append(_cut(frames[index], row, column, size, rng))
        joint.append(0.0)
        offsets.append((0.0, 0.0, 0.0))
    return (
        normalised_window(torch.stack(windows)),
        torch.tensor(joint),
        torch.tensor(offsets, dtype=torch.float32),
    )


def _cut(image: Tensor, row: float, column: float, side: float, rng: np.random.Generator) -> Tensor:
    """Cut a square window; outside the image it is dark. Contrast and exposure vary."""
    height, width = image.shape[1:]
    angle = rng.normal(0, 0.08)
    flip = rng.choice([-1.0, 1.0])
    cos, sin = np.cos(angle), np.sin(angle)
    theta = torch.tensor(
        [
            [side / width * cos * flip, -side / width * sin, 2 * column / width - 1],
            [side / height * sin * flip, side / height * cos, 2 * row / height - 1],
        ],
        dtype=torch.float32,
    )
    fine = F.affine_grid(theta[None], [1, 1, 2 * WINDOW, 2 * WINDOW], align_corners=False)
    padding = "border" if rng.random() < 0.5 else "zeros"
    cut = F.avg_pool2d(
        F.grid_sample(image[None], fine, padding_mode=padding, align_corners=False), 2
    )[0]
    return cut.clamp(0, 1) ** float(np.exp(rng.uniform(-0.6, 0.6)))


if __name__ == "__main__":
    main()
