"""Train the hip device network on simulation: `python -m pipelines.hip_fixation_device.train`."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from pipelines.hip_fixation_device.data import LABELS, SIZE, simulated
from pipelines.networks.hip import HipDeviceNet
from pipelines.transforms.calibration import fit_temperature, fit_threshold, softmax


def main() -> None:
    """Train, calibrate on held-out simulation, write weights and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="folders: no hips")
    parser.add_argument("--images", type=int, default=1260)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    others = [file for folder in options.others for file in _listed(folder)]
    images, labels = simulated(options.images, options.seed, others)
    print(f"{len(images)} images, {len(others)} real ones to choose from", flush=True)
    network = train(images, torch.from_numpy(labels), options.steps)
    held_images, held = simulated(360, options.seed + 1, others)
    logits = evaluate(network, held_images)
    temperature = fit_temperature(logits[::2], held[::2])
    threshold = fit_threshold(softmax(logits[::2] / temperature), held[::2])
    right = float((logits[1::2].argmax(1) == held[1::2]).mean())
    found = {"temperature": temperature, "threshold": threshold, "accuracy": right}
    print(json.dumps(found), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file(halves, options.out)


def train(images: Tensor, labels: Tensor, steps: int, batch: int = 48) -> HipDeviceNet:
    """Train on images [N, 1, 192, 192] with random pose, contrast and inversion-free noise."""
    network = HipDeviceNet(len(LABELS))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        chosen = torch.randint(len(images), (batch,))
        logits = network(augmented(images[chosen]))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
    return network.eval()


def augmented(images: Tensor) -> Tensor:
    """Turn, shift, scale and mirror; change gamma; add noise."""
    number = len(images)
    angle = (torch.rand(number) - 0.5) * 0.35
    scale = 1 + (torch.rand(number) - 0.5) * 0.5
    mirror = torch.where(torch.rand(number) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = (torch.rand(number, 2) - 0.5) * 0.35
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
            torch.stack([sin * mirror, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [number, 1, SIZE, SIZE], align_corners=False)
    out = F.grid_sample(images, grid, align_corners=False).clamp(0, 1)
    out = out ** torch.exp((torch.rand(number, 1, 1, 1) - 0.5) * 1.2)
    return out + 0.03 * torch.rand(number, 1, 1, 1) * torch.randn_like(out)


def evaluate(network: HipDeviceNet, images: Tensor) -> np.ndarray:  # type: ignore[type-arg]
    """Return the logits [N, classes], float64."""
    with torch.inference_mode():
        parts = [network(images[n : n + 64]) for n in range(0, len(images), 64)]
    return torch.cat(parts).double().numpy()


def _listed(folder: Path) -> list[Path]:
    with (folder / "labels.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r.get("split", "train") == "train"]
    return [folder / row["file"] for row in rows[:: max(1, len(rows) // 150)]]


if __name__ == "__main__":
    main()
