"""Features to start from: python -m pipelines.osteoporosis.pretrain --data DIR --out FILE

Transfer from knee radiographs: a network learns the Kellgren-Lawrence grade of published joint
crops, and its features (not its head) are the start of the osteoporosis networks. Where a file of
ImageNet weights is at hand, it takes this one's place (`start` in configs/train.yaml).
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from pipelines.knee_kl_ensemble.augmentation import ordinal_targets
from pipelines.knee_kl_ensemble.data import read_knees
from pipelines.networks.baselines import BODIES, load_body
from pipelines.networks.knee_osteoporosis import KneeClassifier
from pipelines.osteoporosis.fitting import fit_all, logits_of, soft_loss

log = logging.getLogger(__name__)
CONFIG = Path(__file__).parent / "configs" / "pretrain.yaml"
_GRADES = 5


def main(arguments: list[str] | None = None) -> int:
    """Train, write the features and what they were trained with."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="crops with KL grades")
    parser.add_argument("--network", choices=list(BODIES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="features, .safetensors")
    parser.add_argument("--start", type=Path, help="features to start from")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    torch.set_num_threads(options.threads)
    settings: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    for change in options.set:
        key, _, value = change.partition("=")
        if key not in settings:
            parser.error(f"--set {change}: no such key; keys: {', '.join(settings)}")
        settings[key] = yaml.safe_load(value)
    side = max(settings["sizes"])
    train = read_knees(options.data, "train", size=side, limit=settings["images"])
    val = read_knees(options.data, "val", size=side)
    torch.manual_seed(settings["seed"])
    network = KneeClassifier(options.network, _GRADES, dropout=0.0)
    if options.start:
        load_body(network.body, options.start)
    targets = ordinal_targets(torch.from_numpy(train.grades), _GRADES, settings["spread"])
    began = time.monotonic()

    def step(number: int, steps: int, loss: float) -> None:
        if number % 20 == 0:
            log.info("step %d/%d loss %.4f", number, steps, loss)

    losses = fit_all(network, train.images, targets, settings, soft_loss, step)
    answers = logits_of(network, val.images, side).argmax(1)
    accuracy = float((answers == val.grades).mean())
    told = {
        "network": options.network,
        "settings": settings,
        "images": len(train),
        "losses": losses,
        "val_accuracy": accuracy,
        "seconds": time.monotonic() - began,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in network.body.state_dict().items()}, options.out)
    options.out.with_suffix(".json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    log.info("losses %s val accuracy %.4f", losses, accuracy)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
