"""Pack members and finder into the pipeline's one weight file, and calibrate it.

python -m pipelines.knee_kl_ensemble.pack --data DIR --member RUN0/best.safetensors
    --member RUN1/best.safetensors --finder FINDER.safetensors --out WEIGHTS.safetensors

Members in the order of `members` in configs/inference.yaml, as train.py writes them. Prints what
goes into configs/inference.yaml (temperature, threshold) and weights/manifest.yaml (SHA-256).
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import yaml
from safetensors.torch import load_file, save_file

from pipelines.knee_kl_ensemble.data import read_crops
from pipelines.knee_kl_ensemble.evaluate import predictions
from pipelines.networks.knee_kl import KneeKL
from pipelines.transforms.calibration import fit_temperature, fit_threshold, softmax


def main(arguments: list[str] | None = None) -> int:
    """Write the weights in half precision; print temperature, threshold and SHA-256."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="its validation split calibrates")
    parser.add_argument("--member", type=Path, action="append", required=True)
    parser.add_argument("--finder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    config = yaml.safe_load(
        (Path(__file__).parent / "configs" / "inference.yaml").read_text(encoding="utf-8")
    )
    wanted = len(config["members"])
    if len(options.member) != wanted:
        parser.error(
            f"configs/inference.yaml has {wanted} members, --member was given "
            f"{len(options.member)} times: give one for each, or change `members` there"
        )
    network = KneeKL(config["members"], config["network_def"]["vote"]).eval()
    for member, file in zip(network.members, options.member, strict=True):
        member.network.load_state_dict(load_file(file))  # type: ignore[union-attr]
    network.finder.load_state_dict(load_file(options.finder))
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(halves, options.out)
    network.load_state_dict(
        {name: t.float() if t.is_floating_point() else t for name, t in halves.items()}
    )
    held = read_crops(options.data, "val")
    logits = predictions(network, held)
    temperature = fit_temperature(logits, held.grades)
    threshold = fit_threshold(softmax(logits / temperature), held.grades)
    accuracy = float((logits.argmax(1) == held.grades).mean())
    print(f"temperature: {temperature:.4f}\nthreshold: {threshold:.4f}\naccuracy: {accuracy:.4f}")
    print(f"sha256: {hashlib.sha256(options.out.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
