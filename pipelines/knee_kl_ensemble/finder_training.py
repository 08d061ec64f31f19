"""Train the joint finder: python -m pipelines.knee_kl_ensemble.finder_training --crops DIR ...

A window is a joint when the crop around a joint nearly fills it. Real crops and phantoms give
joints with known shifts; shifted and mis-sized windows, hips and drawings give what is none.
Full frames have no boxes but show one knee each: after half of the steps the joint of a frame is
taken to be where the network then sees it best, and what is away from it is no joint.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pipelines.knee_kl_ensemble.phantoms import SEEDS
from pipelines.networks.knee_finder import WINDOW, KneeFinder
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.knee import knee_radiograph
from pipelines.phantoms.no_hip import no_hip
from pipelines.transforms.knee_search import Found, find_joints, normalised_window

Box = tuple[float, float, float]
"""Centre (row, column) and side, in pixels."""


@dataclass(frozen=True)
class Scene:
    """An image [1, H, W] in 0..1 and the boxes of all joints in it; None: not known where."""

    image: Tensor
    joints: tuple[Box, ...] | None


def main(arguments: list[str] | None = None) -> int:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--crops", type=Path, required=True, help="folder with labels.csv: crops")
    parser.add_argument("--frames", type=Path, help="the same: full frames of one knee each")
    parser.add_argument("--out", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--phantoms", type=int, default=60)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    crops = [_crop(i) for i in _images(options.crops, 700, rng, split="train", longest=128)]
    frames = _images(options.frames, 140, rng, split=None, longest=400) if options.frames else []
    phantoms = [_phantom(SEEDS + number) for number in range(options.phantoms)]
    nothing = [_nothing(SEEDS + number) for number in range(options.phantoms)]
    network = KneeFinder()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, max(4, options.steps))
    real: list[Scene] = []
    for step in range(options.steps):
        if step == options.steps // 2 and frames:
            network.eval()
            real = [scene for frame in frames if (scene := _self_labelled(frame, network))]
            network.train()
            print(f"{len(real)} of {len(frames)} frames used", flush=True)
        loss = _loss(network, *_batch(rng, [crops, phantoms, real], [*nothing]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), options.out)
    return 0


def _loss(network: KneeFinder, images: Tensor, joint: Tensor, offsets: Tensor) -> Tensor:
    out = network(images)[:, :, 0, 0]
    loss = F.binary_cross_entropy_with_logits(out[:, 0], joint)
    near = joint.bool()
    if near.any():
        loss = loss + 4 * F.smooth_l1_loss(out[near, 1:], offsets[near], beta=0.05)
    return loss


def _images(
    root: Path, number: int, rng: np.random.Generator, *, split: str | None, longest: int
) -> list[Tensor]:
    with (root / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if split is None or r["split"] == split]
    chosen = rng.choice(len(rows), min(number, len(rows)), replace=False)
    found = []
    for index in chosen:
        image = Image.open(root / rows[index]["file"]).convert("L")
        image.thumbnail((longest, longest))
        found.append(torch.from_numpy(np.asarray(image, np.float32) / 255)[None])
    return found


def _crop(image: Tensor) -> Scene:
    height, width = image.shape[1:]
    return Scene(image, ((height / 2, width / 2, float(height)),))


def _phantom(seed: int) -> Scene:
    """A phantom at about 1 mm a pixel."""
    both = seed % 3 == 0
    made = knee_radiograph(
        seed, seed % 5, "RL"[seed % 2], left_grade=seed % 4 if both else None, spacing_mm=0.5
    )
    boxes = [(row / 2, column / 2, side / 2) for row, column, side in (j.crop for j in made.joints)]
    return Scene(_halved(made.image), tuple(boxes))


def _nothing(seed: int) -> Scene:
    """A hip, or a drawing of something else."""
    if seed % 3:
        return Scene(torch.from_numpy(no_hip(seed))[None], ())
    device = ("none", "blade_nail", "sliding_screw", "other")[seed // 3 % 4]
    return Scene(_halved(hip_radiograph(seed, device, "RL"[seed % 2], spacing_mm=0.7).image), ())


def _halved(stored: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    image = torch.from_numpy(stored.astype(np.float32) / 4095)[None, None]
    return F.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True)[0]


def _self_labelled(frame: Tensor, network: KneeFinder) -> Scene | None:
    """Take the best place for the joint; None: there is none that is like one."""
    found: Sequence[Found] = find_joints(frame[0].numpy(), network, least=0.3)
    height, width = frame.shape[1:]
    best = found[0] if found else None
    if best is None or not (0.1 * height < best.row < 0.9 * height and best.size < 1.2 * width):
        return None
    return Scene(frame, ((best.row, best.column, best.size),))


def _batch(
    rng: np.random.Generator,
    sources: Sequence[Sequence[Scene]],
    nothing: Sequence[Scene],
    each: int = 30,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return windows [N, 1, 48, 48], whether each is a joint [N], and offsets [N, 3]."""
    windows: list[Tensor] = []
    joint: list[float] = []
    offsets: list[Box] = []

    def add(image: Tensor, box: Box, shift: Box, near: bool) -> None:
        (row, column, size), (dx, dy, ds) = box, shift
        side = size * float(np.exp(-ds))
        flip = float(rng.choice([-1.0, 1.0]))
        windows.append(_cut(image, (row - dy * side, column - dx * side, side), flip, rng))
        joint.append(float(near))
        offsets.append((dx * flip, dy, ds))

    for source in sources:
        for index in rng.integers(len(source), size=each) if source else ():
            scene = source[index]
            assert scene.joints is not None
            box = scene.joints[rng.integers(len(scene.joints))]
            if rng.random() < 0.55:
                dx, dy = rng.uniform(-0.12, 0.12, 2)
                add(scene.image, box, (dx, dy, rng.uniform(-0.17, 0.17)), near=True)
            else:
                add(scene.image, box, _far_off(rng, box, scene.joints), near=False)
    for index in rng.integers(len(nothing), size=each // 2):
        image = nothing[index].image
        height, width = image.shape[1:]
        size = min(height, width) * float(np.exp(rng.uniform(np.log(0.2), np.log(1.3))))
        box = (rng.uniform(0, height), rng.uniform(0, width), size)
        add(image, box, (0.0, 0.0, 0.0), near=False)
    return (
        normalised_window(torch.stack(windows)),
        torch.tensor(joint),
        torch.tensor(offsets, dtype=torch.float32),
    )


def _far_off(rng: np.random.Generator, box: Box, joints: Sequence[Box]) -> Box:
    """Draw a shift and a size with which the window frames no joint."""
    while True:
        if rng.random() < 0.35:
            dx, dy = rng.uniform(-0.2, 0.2, 2)
            ds = float(rng.choice([-1, 1]) * rng.uniform(0.45, 1.3))
        else:
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 1.6)
            dx, dy, ds = far * np.cos(angle), far * np.sin(angle), rng.uniform(-0.9, 0.9)
        side = box[2] * np.exp(-ds)
        row, column = box[0] - dy * side, box[1] - dx * side
        if all(
            max(abs(row - j[0]), abs(column - j[1])) > 0.22 * side or abs(np.log(side / j[2])) > 0.4
            for j in joints
        ):
            return float(dx), float(dy), float(ds)


def _cut(image: Tensor, box: Box, flip: float, rng: np.random.Generator) -> Tensor:
    """Cut a square window; outside the image it is dark. Contrast and exposure vary."""
    row, column, side = box
    height, width = image.shape[1:]
    angle = rng.normal(0, 0.08)
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
    )[0].clamp(0, 1)
    if rng.random() < 0.08:  # a white strip, as some films have at an edge
        at = int(rng.integers(WINDOW))
        strip = cut[:, :at] if rng.random() < 0.5 else cut[:, :, :at]
        if strip.numel() < 0.25 * cut.numel():
            strip.fill_(1.0)
    return cut ** float(np.exp(rng.uniform(-0.6, 0.6)))


if __name__ == "__main__":
    raise SystemExit(main())
