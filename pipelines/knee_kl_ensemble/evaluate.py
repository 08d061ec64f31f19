"""Measure the network: python -m pipelines.knee_kl_ensemble.evaluate --data DIR --output DIR

`--data` holds joint crops and `labels.csv` (`file`, `kl`, `split`, maybe `side`). Prints a table
beside the paper's figures; writes `evaluation.json` and `confusion.png`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.parts import build_parts
from pipelines.knee_kl_ensemble.data import Crops, read_crops
from pipelines.transforms.calibration import expected_calibration_error, prediction_set, softmax

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Array = npt.NDArray[np.float64]

# the paper says 0.7665 without naming the average; its accuracy is 0.7693
_PAPER: Final = {"accuracy": "0.7693", "f1_weighted": "0.7665"}


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, write them and the confusion matrix."""
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
    parts = build_parts(bundle, torch.device("cpu"))
    crops = read_crops(options.data, options.split)
    calibrated: Any = parts.postprocessing.transforms[0]  # type: ignore[attr-defined]
    logits = predictions(parts.network, crops) / calibrated.temperature
    found = figures(softmax(logits), crops.grades, calibrated.threshold)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "evaluation.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    draw_confusion(found["confusion"], options.output / "confusion.png")
    print(table(found))
    return 0


def table(found: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [f"| {found['n']} images | these weights | 95 % | paper (1,656) |", "|---|---|---|---|"]
    for name in ("accuracy", "f1_macro", "f1_weighted", "quadratic_kappa", "mae", "ece"):
        ends = found["intervals"].get(name)
        between = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
        lines.append(f"| {name} | {found[name]:.4f} | {between} | {_PAPER.get(name, '')} |")
    lines.append(f"| coverage of the 90 % sets | {found['coverage']:.4f} | | |")
    lines.append(f"| mean size of the sets | {found['mean_set_size']:.2f} | | |")
    return "\n".join(lines)


def draw_confusion(counts: list[list[int]], file: Path) -> None:
    """Draw truth by answer."""
    values = np.array(counts)
    figure, axes = plt.subplots(figsize=(5.5, 5))
    axes.imshow(values / np.maximum(values.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, str(value), ha="center", va="center", color="0.2")
    names = [f"KL {k}" for k in range(len(values))]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="truth")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


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
    """Return Cohen's kappa with quadratic weights; nan where all is one grade."""
    table = np.zeros((5, 5))
    np.add.at(table, (truth, answers), 1)
    distance = (np.arange(5)[:, None] - np.arange(5)) ** 2
    chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
    expected = float((distance * chance).sum())
    return 1 - float((distance * table).sum()) / expected if expected else float("nan")


if __name__ == "__main__":
    raise SystemExit(main())
