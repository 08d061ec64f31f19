"""Measure the network: python -m pipelines.knee_kl_ensemble.evaluate --data DIR --output DIR

The same as `dicom-node pipelines evaluate knee_kl_ensemble`, in a form that needs no command line
of the node: prints the table, writes `evaluation.json` and the charts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dicom_node.inference.bundles import load_bundle
from dicom_node.training.contract import Evaluation
from dicom_node.training.entries import evaluator_of
from pipelines.knee_kl_ensemble.data import Crops

Array = npt.NDArray[np.float64]


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, write them and the charts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--weights", type=Path, help="a site's own; absent: those that ship")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    bundle = load_bundle(Path(__file__).parent, options.weights)
    asked = Evaluation(
        bundle, options.data, options.split, options.output, torch.device("cpu"), _silent
    )
    found: dict[str, Any] = dict(evaluator_of(bundle)(asked))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "evaluation.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    heading, *lines = found["table"]
    for line in (heading, ["---"] * len(heading), *lines):
        print(f"| {' | '.join(line)} |")
    return 0


def predictions(network: nn.Module, crops: Crops) -> Array:
    """Return the ensemble's log probabilities [N, 5]."""
    with torch.inference_mode():
        parts = [
            network(crops.images[start : start + 4].float()[:, None] / 255)
            for start in range(0, len(crops.grades), 4)
        ]
    found: Array = torch.cat(parts).double().numpy()
    return found


def _silent(share: float, words: str) -> None:
    """No progress bar."""


if __name__ == "__main__":
    raise SystemExit(main())
