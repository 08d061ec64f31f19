"""Train the hip device network: python -m pipelines.hip_fixation_device.train --out W.safetensors

On simulation, or with `--data DIR [--catalogue FILE]` on a site's own images: DIR/labels.csv has
`file`, `label` (a key of the catalogue, none, other, not_ap) and `split` (train, val; by patient).
DIR/labels.csv may name DICOM files. `--mixed N` adds N simulated hips of each label that the
simulator knows, `--backgrounds TABLE` draws these on real hips (`phantoms.hip_backgrounds`).
`--bundle FOLDER` writes the whole bundle of these devices.
Prints what goes into configs/inference.yaml: temperature, threshold and the gate's limit.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file
from torch import Tensor

from dicom_node.training.whole import whole
from pipelines.hip_fixation_device.data import (
    CATALOGUE,
    LABELS,
    SIZE,
    Labels,
    labels_of,
    read_folder,
    simulated,
)
from pipelines.hip_fixation_device.mixing import (
    as_tensors,
    hip_dataset,
    read_backgrounds,
    simulated_items,
)
from pipelines.hip_fixation_device.site_bundle import write_bundle
from pipelines.networks.hip import HipDeviceNet
from pipelines.transforms.calibration import fit_temperature, fit_threshold, softmax

HERE = Path(__file__).parent
Array = npt.NDArray[np.float64]


def main(arguments: list[str] | None = None) -> int:
    """Train, calibrate on held-out images, write weights and what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--data", type=Path, help="a site's own images; absent: simulation")
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE)
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="folders: no hips")
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "train.yaml")
    parser.add_argument("--bundle", type=Path, help="write the bundle of the catalogue here")
    parser.add_argument(
        "--mixed", type=int, default=0, help="simulated hips a label, and background"
    )
    parser.add_argument("--backgrounds", type=Path, help="table of real hips without metal")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    settings: dict[str, Any] = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    if options.steps is not None:
        settings["steps"] = options.steps
    seed = int(settings["seed"])
    torch.manual_seed(seed)
    others = [file for folder in options.others for file in _listed(folder)]
    if options.data is not None:
        labels = labels_of(options.catalogue)
        images, truth = read_folder(options.data, labels, "train")
        held_images, held = read_folder(options.data, labels, "val")
    else:
        labels, number = LABELS, int(settings["images"])
        images, truth = simulated(number, seed, others, extra=settings["extra"])
        held_images, held = simulated(int(settings["held_out"]), seed + 1, others)
    backgrounds = read_backgrounds(options.backgrounds) if options.backgrounds else []
    items = simulated_items(
        [label for label in labels if label in LABELS[:-1]],
        options.mixed,
        seed + 2,
        len(backgrounds),
    )
    if items:
        more, more_truth = as_tensors(hip_dataset(items, backgrounds), labels)
        images, truth = torch.cat([images, more]), np.r_[truth, more_truth]
    print(f"{len(images)} images, {len(others)} real ones to choose from", flush=True)
    network = train(images, torch.from_numpy(truth), len(labels), settings)
    # what is shipped in half precision is calibrated in half precision
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(halves)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(halves, options.out)
    found = calibration(evaluate(network, held_images), held)
    if options.bundle is not None:
        write_bundle(options.bundle, options.catalogue, found)
    print(json.dumps(found), flush=True)
    return 0


def train(
    images: Tensor,
    labels: Tensor,
    classes: int,
    settings: Mapping[str, Any],
    *,
    checkpoint: Path | None = None,
    seconds: float | None = None,
    device: torch.device | None = None,
    watch: Callable[[float, float], None] | None = None,
) -> HipDeviceNet:
    """Train on images [N, 1, 256, 256] with random pose, contrast, sharpness and noise.

    Args:
        checkpoint: Written every 50 steps; where it is there already, training goes on from it.
        seconds: End after so long.
        watch: Called with the share done and the loss, instead of the lines printed.
    """
    device = device or torch.device("cpu")
    network = HipDeviceNet(classes).to(device, memory_format=torch.channels_last)
    rate, steps = float(settings["learning_rate"]), int(settings["steps"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, max(steps, 4))
    first, began = 0, time.monotonic()
    if checkpoint is not None and checkpoint.is_file():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["random"])
        first = int(saved["step"])
    for step in range(first, steps):
        if seconds is not None and time.monotonic() - began > seconds:
            break
        chosen = torch.randint(len(images), (int(settings["batch"]),))
        inputs = augmented(images[chosen]).to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(inputs)[:, :classes]
        loss = F.cross_entropy(
            logits.float(),
            labels[chosen].to(device),
            label_smoothing=float(settings["label_smoothing"]),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if watch is not None:
            watch((step + 1) / steps, loss.item())
        elif step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
        if checkpoint is not None and (step % 50 == 49 or step == steps - 1):
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "random": torch.get_rng_state(),
                "step": step + 1,
            }
            with whole(checkpoint) as partial:
                torch.save(state, partial)
    network = network.cpu().eval()
    with torch.inference_mode():
        parts = [network.described(images[n : n + 32]) for n in range(0, len(images), 32)]
        network.know(torch.cat(parts), labels)
    return network


def augmented(images: Tensor) -> Tensor:
    """Turn, shift, scale and mirror; sharpen; change gamma; add noise: [N, 1, 256, 256]."""
    number = len(images)
    angle = (torch.rand(number) - 0.5) * 0.35
    scale = 1 + (torch.rand(number) - 0.5) * 0.4
    mirror = torch.where(torch.rand(number) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = (torch.rand(number, 2) - 0.5) * 0.3
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
            torch.stack([sin * mirror, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [number, 1, SIZE, SIZE], align_corners=False)
    out = F.grid_sample(images, grid, align_corners=False).clamp(0, 1)
    # the edge enhancement of digital systems, strong in a few
    sharp = (torch.rand(number, 1, 1, 1) - 0.5).clamp_min(0) * 4
    out = (out + sharp * (out - F.avg_pool2d(out, 15, 1, 7, count_include_pad=False))).clamp(0, 1)
    out = out ** torch.exp((torch.rand(number, 1, 1, 1) - 0.5) * 1.2)
    return out + 0.03 * torch.rand(number, 1, 1, 1) * torch.randn_like(out)


def evaluate(network: torch.nn.Module, images: Tensor) -> Array:
    """Return the network's output [N, classes + 1], float64: logits, then the distance."""
    with torch.inference_mode():
        parts = [network(images[n : n + 32]) for n in range(0, len(images), 32)]
    found: Array = torch.cat(parts).double().numpy()
    return found


CALIBRATED: Final = ("temperature", "threshold", "most_not_ap", "farthest")
"""What `calibration` fits for `HipDeviceAnswerd`."""


def calibration(output: Array, truth: Labels) -> dict[str, float]:
    """Fit the temperature, the prediction sets' threshold and the limits of gate and distance.

    The gate's limit (of the last label, not AP) lets at least 99 in 100 of the held-out hips pass;
    it is between 0.02 and one half. That of the distance lets 995 in 1,000 of the held-out hips
    with a device pass.
    """
    logits = output[:, :-1]
    temperature = fit_temperature(logits, truth)
    whole = softmax(logits / temperature)
    last = logits.shape[1] - 1
    hips = truth != last
    found = {"temperature": temperature, "threshold": 1.0, "most_not_ap": 0.5}
    devices = truth < last - 2
    found["farthest"] = float(np.quantile(output[devices, -1], 0.995)) if devices.any() else 1e9
    if hips.any():
        answers = softmax(logits[hips, :-1] / temperature)
        found["threshold"] = fit_threshold(answers, truth[hips])
        found["most_not_ap"] = float(np.clip(np.quantile(whole[hips, last], 0.99), 0.02, 0.5))
        found["accuracy_of_hips"] = float((answers.argmax(1) == truth[hips]).mean())
    if not hips.all():
        refused = whole[~hips, last] > found["most_not_ap"]
        found["refused_of_not_ap"] = float(refused.mean())
    return found


def _listed(folder: Path) -> list[Path]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r.get("split", "train") == "train"]
    return [folder / row["file"] for row in rows[:: max(1, len(rows) // 150)]]


if __name__ == "__main__":
    raise SystemExit(main())
