"""Measure the pipeline's network: `python -m pipelines.knee_kl_ensemble.evaluate --data DIR`."""

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
from dicom_node.inference.parts import build_parts
from pipelines.knee_kl_ensemble.data import Crops, read_crops
from pipelines.transforms.calibration import expected_calibration_error, prediction_set, softmax

Array = npt.NDArray[np.float64]


def main() -> None:
    """Print the figures, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parts = build_parts(load_bundle(Path(__file__).parent), torch.device("cpu"))
    crops = read_crops(options.data, options.split)
    calibrated: Any = parts.postprocessing.transforms[0]  # type: ignore[attr-defined]
    logits = predictions(parts.network, crops) / calibrated.temperature
    found = figures(softmax(logits), crops.grades, calibrated.threshold)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def predictions(network: nn.Module, crops: Crops) -> Array:
    """Return the ensemble's log probabilities [N, 5]."""
    with torch.inference_mode():
        parts = [
            network(crops.images[start : start + 32].float()[:, None] / 255)
            for start in range(0, len(crops.grades), 32)
        ]
    found: Array = torch.cat(parts).double().numpy()
    return found


def figures(probabilities: Array, truth: npt.NDArray[np.int64], threshold: float) -> dict[str, Any]:
    """Return the pipeline's figures, with 95 % bootstrap intervals of the first four."""
    answers = probabilities.argmax(1)
    sets = [prediction_set(p, threshold) for p in probabilities]
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(truth), size=len(truth)) for _ in range(1000)]

    def interval(measure: Any) -> list[float]:
        values = [measure(answers[d], truth[d]) for d in draws]
        return [round(float(v), 4) for v in np.percentile(values, (2.5, 97.5))]

    measures: dict[str, Any] = {
        "accuracy": lambda a, t: (a == t).mean(),
        "f1_macro": lambda a, t: f1_scores(a, t).mean(),
        "quadratic_kappa": quadratic_kappa,
        "mae": lambda a, t: np.abs(a - t).mean(),
    }
    weights = np.bincount(truth, minlength=5) / len(truth)
    return {
        "n": len(truth),
        **{name: float(measure(answers, truth)) for name, measure in measures.items()},
        "f1_weighted": float((f1_scores(answers, truth) * weights).sum()),
        "ece": expected_calibration_error(probabilities, truth),
        "coverage": float(np.mean([t in s for t, s in zip(truth, sets, strict=True)])),
        "mean_set_size": float(np.mean([len(s) for s in sets])),
        "per_class": [
            {
                "grade": k,
                "n": int((truth == k).sum()),
                "recall": float((answers[truth == k] == k).mean()),
            }
            for k in range(5)
            if (truth == k).any()
        ],
        "confusion": [
            [int(((truth == t) & (answers == a)).sum()) for a in range(5)] for t in range(5)
        ],
        "intervals": {name: interval(measure) for name, measure in measures.items()},
    }


def f1_scores(answers: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> Array:
    """Return the F1 of each grade; 0 where there is neither an answer nor a case."""
    found = []
    for k in range(5):
        both = ((answers == k) & (truth == k)).sum()
        total = (answers == k).sum() + (truth == k).sum()
        found.append(2 * both / total if total else 0.0)
    return np.array(found)


def quadratic_kappa(answers: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """Return Cohen's kappa with quadratic weights."""
    table = np.zeros((5, 5))
    np.add.at(table, (truth, answers), 1)
    distance = (np.arange(5)[:, None] - np.arange(5)) ** 2
    chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
    return float(1 - (distance * table).sum() / (distance * chance).sum())


if __name__ == "__main__":
    main()
