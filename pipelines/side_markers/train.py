"""Train the reader of side markers: python -m pipelines.side_markers.train --crops DIR --out FILE

Letters and what is none are drawn on pieces of real knees (pipelines/phantoms/side_marker.py).
The spotter learns where a letter stands alone; the readers learn L, R and none from windows around
what was drawn and, in their second half, from what the spotter takes for a letter where none is.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn

from pipelines.networks.side_marker import (
    READ_WINDOW,
    SPOT_HEIGHT,
    SPOT_STRIDE,
    SPOT_WINDOW,
    SideMarkerNetwork,
    normalised,
)
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.hip_devices import DEVICES
from pipelines.phantoms.knee import knee_radiograph
from pipelines.phantoms.side_marker import NONE, Item, as_acquired, put_item
from pipelines.transforms.side_markers import Spot, reading_window, spots_of

Array = npt.NDArray[np.float32]
Scene = tuple[Array, Item]

_SIDE = 64
_LIKE = 0.3
"""Likeness to the spotter from which a place without a letter is a lesson for the readers."""
_SEEDS = 810_000
"""Of the phantoms: no other training and no test uses them."""
_MORE = 16
"""Windows of each kind that holds no marker, beside those of the scenes, in a step."""
_NEAR, _AROUND = 3.0, 8.0
"""Pixels from a letter's centre within which a place is it; beyond which it is not."""
_DRAWN = (9.0, 27.0)
"""Heights of letters, pixels."""
_HEIGHTS = (11.0, 23.0)
"""Letters that the spotter is to see; smaller and larger ones are another look's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--crops", type=Path, required=True, help="folder with labels.csv: knees")
    parser.add_argument("--out", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--scenes", type=int, default=20000, help="drawn")
    parser.add_argument("--steps", type=int, default=3000, help="of each network, 64 scenes a step")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(options.seed)
    crops = _crops(options.crops, min(2000, options.scenes), rng)
    network = SideMarkerNetwork()
    scenes = _scenes(rng, crops, options.scenes)
    print(f"{len(scenes)} scenes", flush=True)
    _train_spotter(network, scenes, rng, options.steps)
    others = [*crops, *_others(min(80, options.scenes // 100))]
    mistaken = _mistaken(network, others)
    print(f"{len(mistaken)} places of {len(others)} images are taken for letters", flush=True)
    for reader in network.readers:
        loss = _train_reader(reader, scenes, mistaken, rng, options.steps)
        print(f"reader: loss {loss:.4f}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file(halves, options.out)
    return 0


def _crops(root: Path, number: int, rng: np.random.Generator) -> list[Array]:
    with (root / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split", "train") == "train"]
    chosen = rng.choice(len(rows), min(number, len(rows)), replace=False)
    images = (Image.open(root / rows[index]["file"]).convert("L") for index in chosen)
    return [np.asarray(image, np.float32) / 255 for image in images]


def _others(number: int) -> list[Array]:
    """Draw radiographs without letters: hips, most with metal, and knees."""
    devices = tuple(DEVICES)
    made = [
        image
        for n in range(number)
        for image in (
            hip_radiograph(_SEEDS + n, devices[n % len(devices)], marker=False).image,
            knee_radiograph(_SEEDS + n, n % 5, "RL"[n % 2], marker=False).image,
        )
    ]
    return [image.astype(np.float32) / 4095 for image in made]


def _scenes(rng: np.random.Generator, crops: Sequence[Array], number: int) -> list[Scene]:
    """Draw one item each on a piece of a crop, on air, or on the border between them."""
    made = []
    for _ in range(number):
        height = float(np.exp(rng.uniform(*np.log(_DRAWN))))
        image, item = put_item(rng, _background(rng, crops), height)
        made.append((as_acquired(rng, image), item))
    return made


def _background(rng: np.random.Generator, crops: Sequence[Array]) -> Array:
    if rng.random() < 0.15:
        return _texture(rng)
    crop = crops[int(rng.integers(len(crops)))]
    side = int(rng.integers(32, min(crop.shape)))
    top, left = (int(rng.integers(0, n - side + 1)) for n in crop.shape)
    picture = Image.fromarray(crop[top : top + side, left : left + side])
    piece = np.array(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32)
    piece = np.clip(piece * rng.uniform(0.3, 1.2), 0, 1)
    how = rng.random()
    if how < 0.35:
        air = float(rng.uniform(0, 0.3)) if rng.random() < 0.85 else 1.0
        piece = piece * 0.1 + air if how < 0.2 else piece
        if how >= 0.2:
            edge = int(rng.integers(8, _SIDE - 8))
            sides = (np.s_[:edge], np.s_[edge:], np.s_[:, :edge], np.s_[:, edge:])
            piece[sides[int(rng.integers(4))]] = air
    return np.clip(piece, 0, 1).astype(np.float32)


def _texture(rng: np.random.Generator) -> Array:
    """Return noise of one grain and direction, as casts, cloth and trabecular bone look."""
    grain = np.exp(rng.uniform(np.log(0.3), np.log(6), 2))
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (_SIDE, _SIDE)), grain)
    noise *= rng.uniform(0.02, 0.3) / (noise.std() + 1e-6)
    return np.clip(noise + rng.uniform(0, 0.8), 0, 1).astype(np.float32)


def _train_spotter(
    network: SideMarkerNetwork, scenes: Sequence[Scene], rng: np.random.Generator, steps: int
) -> None:
    images = normalised(_batch(scenes), SPOT_WINDOW)
    places = (_SIDE - SPOT_WINDOW) // SPOT_STRIDE + 1
    centres = torch.arange(places) * SPOT_STRIDE + SPOT_WINDOW / 2
    items = torch.tensor([(i.row, i.column, i.height, i.kind) for _, i in scenes])
    down = items[:, 0, None, None] - centres[:, None]
    right = items[:, 1, None, None] - centres[None, :]
    down, right = (t.expand(-1, places, places) for t in (down, right))
    far = torch.maximum(down.abs(), right.abs())
    height = items[:, 2, None, None]
    is_marker = items[:, 3, None, None] != NONE
    seen = (height > _HEIGHTS[0]) & (height < _HEIGHTS[1])
    truth = is_marker & seen & (far <= _NEAR)
    nothing = ~is_marker | (far > _AROUND)
    size = (height / SPOT_HEIGHT).log().expand_as(far)
    offsets = torch.stack([right, down, size * 10], 1)
    optimizer, schedule = _optimizer(network.spotter, steps)
    network.spotter.train()
    for step in range(steps):
        chosen = torch.from_numpy(rng.integers(0, len(scenes), 64))
        out = network.spotter(images[chosen])
        near, off = truth[chosen], nothing[chosen]
        losses = F.binary_cross_entropy_with_logits(out[:, 0], near.float(), reduction="none")
        wrong = losses[off]
        hardest = wrong.topk(max(1, len(wrong) // 20)).values
        loss = hardest.mean()
        if near.any():
            told = torch.cat([out[:, 1:3], 10 * out[:, 3:]], 1).permute(0, 2, 3, 1)[near]
            want = offsets[chosen].permute(0, 2, 3, 1)[near]
            loss = loss + losses[near].mean() + 0.2 * F.smooth_l1_loss(told, want)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"spotter: step {step} loss {loss.item():.4f}", flush=True)
    network.spotter.eval()


def _train_reader(
    reader: nn.Module,
    scenes: Sequence[Scene],
    mistaken: Sequence[Tensor],
    rng: np.random.Generator,
    steps: int,
) -> float:
    """Train a reader and return the mean loss of its last fifty steps."""
    kinds = torch.tensor([item.kind for _, item in scenes])
    optimizer, schedule = _optimizer(reader, steps)
    reader.train()
    last = []
    for step in range(steps):
        chosen = rng.integers(0, len(scenes), 64)
        windows = [_around(rng, *scenes[index]) for index in chosen]
        more = [_elsewhere(rng, *scenes[index]) for index in chosen[:_MORE]]
        if step > steps // 2 and mistaken:
            more += [mistaken[int(rng.integers(len(mistaken)))] for _ in range(_MORE)]
        windows += more
        truth = torch.cat([kinds[chosen], torch.full((len(more),), NONE)])
        logits = reader(normalised(torch.cat(windows), READ_WINDOW))
        loss = F.cross_entropy(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        last = [*last[-49:], float(loss.item())]
        if step % 200 == 0:
            print(f"reader: step {step} loss {loss.item():.4f}", flush=True)
    reader.eval()
    return float(np.mean(last))


def _around(rng: np.random.Generator, image: Array, item: Item) -> Tensor:
    """Cut the window as the search would: a little off, a little too large or small."""
    right, down = rng.uniform(-0.12, 0.12, 2)
    spot = Spot(item.row, item.column, item.height * float(np.exp(rng.normal(0, 0.1))), 1)
    return reading_window(torch.from_numpy(image)[None, None], spot, right, down, 1.0)


def _elsewhere(rng: np.random.Generator, image: Array, item: Item) -> Tensor:
    """Cut a window that holds the letter much too small, or beside its middle, or not at all."""
    if rng.random() < 0.5:
        off = rng.normal(0, 0.3, 2) * item.height
        height = item.height * float(rng.uniform(1.9, 3.5))
    else:
        turn = rng.uniform(0, 2 * np.pi)
        off = np.array([np.sin(turn), np.cos(turn)]) * item.height * rng.uniform(0.6, 2)
        height = item.height * float(np.exp(rng.normal(0, 0.3)))
    spot = Spot(item.row + off[0], item.column + off[1], height, 1)
    return reading_window(torch.from_numpy(image)[None, None], spot, 0, 0, 1)


def _mistaken(network: SideMarkerNetwork, nothing: Sequence[Array]) -> list[Tensor]:
    """Return windows of what the spotter takes for letters in images that have none."""
    images = (torch.from_numpy(image)[None, None] for image in nothing)
    return [
        reading_window(image, spot, 0, 0, 1)
        for image in images
        for spot in spots_of(image, network, _LIKE)[:6]
    ]


def _optimizer(
    network: nn.Module, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, max(4, steps))


def _batch(scenes: Sequence[Scene]) -> Tensor:
    return torch.from_numpy(np.stack([image for image, _ in scenes]))[:, None]


if __name__ == "__main__":
    raise SystemExit(main())
