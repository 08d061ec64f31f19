"""Measure the hip device network: python -m pipelines.hip_fixation_device.evaluate --output DIR

On fresh phantoms, or with `--data DIR` on a site's own images (`labels.csv`: file, label, split).
`--backgrounds TABLE` measures simulated devices on real hips too (`phantoms.hip_backgrounds`).
`--outside DIR...` names folders of images that show no hip, for the gate. Prints a table; writes
`evaluation.json`, `confusion.png` and `roc.png`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import numpy.typing as npt
import torch

from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.parts import build_parts
from pipelines.hip_fixation_device.data import (
    CATALOGUE,
    LABELS,
    Labels,
    folder_images,
    labels_of,
    read_folder,
    simulated,
    unseen,
)
from pipelines.hip_fixation_device.mixing import (
    as_tensors,
    hip_dataset,
    read_backgrounds,
    simulated_items,
)
from pipelines.hip_fixation_device.train import evaluate
from pipelines.phantoms.hip_backgrounds import Background
from pipelines.transforms.calibration import expected_calibration_error, prediction_set, softmax
from pipelines.transforms.hip import HipDeviceAnswerd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from sklearn.metrics import roc_auc_score, roc_curve

Array = npt.NDArray[np.float64]
_FRESH: Final = 9_000
"""Seeds of evaluation; training uses its own."""


def main(arguments: list[str] | None = None) -> int:
    """Print the table, write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="a site's own; absent: those that ship")
    parser.add_argument("--data", type=Path, help="a site's own images; absent: phantoms")
    parser.add_argument("--split", default="test")
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE)
    parser.add_argument("--phantoms", type=int, default=450)
    parser.add_argument("--seed", type=int, default=_FRESH)
    parser.add_argument("--unseen", type=int, default=100, help="hips with metal of unseen kinds")
    parser.add_argument("--outside", type=Path, nargs="*", default=[])
    parser.add_argument("--backgrounds", type=Path, help="table of real hips without metal")
    options = parser.parse_args(arguments)
    parts = build_parts(load_bundle(Path(__file__).parent, options.weights), torch.device("cpu"))
    answer = parts.postprocessing.transforms[0]  # type: ignore[attr-defined]
    labels = labels_of(options.catalogue)
    if options.data is not None:
        images, truth = read_folder(options.data, labels, options.split)
    else:
        images, truth = simulated(options.phantoms, options.seed)
    output = evaluate(parts.network, images)
    logits = output[:, :-1]
    found = figures(logits, truth, labels, answer)
    last = len(labels) - 1
    inside = softmax(logits[truth != last] / answer.temperature)[:, last]
    if options.data is None:
        hips = truth < last - 2
        images, kinds = unseen(options.unseen, options.seed + 1)
        strange = evaluate(parts.network, images)
        found["unseen"] = open_set(output[hips], strange, kinds, answer.farthest)
    if options.backgrounds is not None:
        found["backgrounds"] = on_backgrounds(
            parts.network, read_backgrounds(options.backgrounds), options.seed + 2, answer
        )
    found["outside"] = {}
    for folder in options.outside:
        outside = evaluate(parts.network, folder_images(folder))[:, :-1]
        outside = softmax(outside / answer.temperature)
        found["outside"][folder.name] = gate_figures(inside, outside[:, last], answer.most_not_ap)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "evaluation.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    hips = truth != last
    answers = softmax(logits[hips, :-1] / answer.temperature)
    draw_confusion(found["confusion"], labels[:-1], options.output / "confusion.png")
    draw_roc(answers, truth[hips], labels[:-1], options.output / "roc.png")
    print(table(found))
    return 0


def figures(
    logits: Array, truth: Labels, labels: Sequence[str], answer: HipDeviceAnswerd
) -> dict[str, Any]:
    """Return the paper's figures of the images that are AP hips, and the gate's of the rest."""
    last = len(labels) - 1
    whole = softmax(logits / answer.temperature)
    passed = whole[:, last] <= answer.most_not_ap
    hips = truth != last
    probabilities = softmax(logits[hips, :-1] / answer.temperature)
    answers, true = probabilities.argmax(1), truth[hips]
    sets = [prediction_set(p, answer.threshold) for p in probabilities]
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(true), size=len(true)) for _ in range(1000)]
    right = answers == true
    return {
        "n": len(true),
        "top1": float(right.mean()),
        "top1_interval": [
            float(np.quantile([right[d].mean() for d in draws], q)) for q in (0.025, 0.975)
        ],
        "per_label": {
            name: _one_label(probabilities[:, k], answers == k, true == k)
            for k, name in enumerate(labels[:-1])
        },
        "confusion": [
            [int(((true == t) & (answers == a)).sum()) for a in range(last)] for t in range(last)
        ],
        "ece": expected_calibration_error(probabilities, true),
        "coverage": float(np.mean([t in s for t, s in zip(true, sets, strict=True)])),
        "mean_set_size": float(np.mean([len(s) for s in sets])),
        "hips_passed": float(passed[hips].mean()),
        "not_ap": gate_figures(whole[hips, last], whole[~hips, last], answer.most_not_ap)
        if (~hips).any()
        else {},
    }


def on_backgrounds(
    network: torch.nn.Module,
    backgrounds: Sequence[Background],
    seed: int,
    answer: HipDeviceAnswerd,
    each: int = 5,
) -> list[dict[str, float]]:
    """Return for each real hip how simulated devices in it are taken, with and without the gate."""
    found = []
    for background in backgrounds:
        items = simulated_items(LABELS[:-1], each, seed, backgrounds=1)
        images, truth = as_tensors(hip_dataset(items, [background]), LABELS)
        logits = evaluate(network, images)[:, :-1]
        refused = softmax(logits / answer.temperature)[:, -1] > answer.most_not_ap
        right = logits[:, :-1].argmax(1) == truth
        found.append(
            {"n": len(truth), "top1": float(right.mean()), "refused": float(refused.mean())}
        )
    return found


def open_set(known: Array, unknown: Array, kinds: Sequence[str], farthest: float) -> dict[str, Any]:
    """Return how devices of the catalogue are told from kinds of metal that no training saw.

    The score is the distance to the nearest known device. A kind is taken rightly when no device
    of the catalogue is the answer, or the answer is refused because it lies too far.

    Args:
        known: The network's output for hips with a device of the catalogue; the last columns are
            none, other metal, not an AP view, and the distance.
        unknown: The same for `kinds`.
    """
    right = _no_device(unknown) | (unknown[:, -1] > farthest)
    return {
        "n": len(unknown),
        "auroc": gate_figures(known[:, -1], unknown[:, -1], farthest)["auroc"],
        "known_refused": float((known[:, -1] > farthest).mean()),
        "not_called_a_device": float(right.mean()),
        "by_kind": {
            kind: float(right[[k == kind for k in kinds]].mean()) for kind in dict.fromkeys(kinds)
        },
    }


def _no_device(output: Array) -> npt.NDArray[np.bool_]:
    """Tell for which images no device of the catalogue is the likeliest of the answers."""
    answers = output[:, :-2].argmax(1)
    found: npt.NDArray[np.bool_] = answers >= output.shape[1] - 4
    return found


def gate_figures(inside: Array, outside: Array, limit: float) -> dict[str, Any]:
    """Return how the gate tells AP hips (`inside`) from the rest, by the last class."""
    positive = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    return {
        "n": len(outside),
        "refused": float((outside > limit).mean()),
        "auroc": float(roc_auc_score(positive, np.r_[inside, outside])),
    }


def _one_label(
    score: Array, called: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    both = int((called & true).sum())
    precision = both / called.sum() if called.any() else 0.0
    sensitivity = both / true.sum() if true.any() else 0.0
    return {
        "n": int(true.sum()),
        "precision": float(precision),
        "sensitivity": float(sensitivity),
        "specificity": float((~called & ~true).sum() / max(1, (~true).sum())),
        "f1": float(2 * both / max(1, called.sum() + true.sum())),
        "auc": float(roc_auc_score(true, score)) if true.any() and not true.all() else None,
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as a Markdown table and three lines."""
    names = ("n", "precision", "sensitivity", "specificity", "f1", "auc")
    lines = ["| label | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, row in found["per_label"].items():
        cells = ["" if (v := row[n]) is None else f"{v:.3f}" if n != "n" else str(v) for n in names]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    low, high = found["top1_interval"]
    lines += [
        "",
        f"TOP-1 {found['top1']:.3f} (95 % {low:.3f} to {high:.3f}), n = {found['n']}",
        f"ECE {found['ece']:.3f}; 90 % sets: coverage {found['coverage']:.3f}, "
        f"mean size {found['mean_set_size']:.2f}",
        f"gate: {found['hips_passed']:.3f} of the hips pass",
    ]
    if "unseen" in found:
        unknown = found["unseen"]
        lines.append(
            f"open set: AUROC {unknown['auroc']:.3f}; {unknown['not_called_a_device']:.3f} of "
            f"{unknown['n']} hips with metal of unseen kinds are not called a device; "
            f"{unknown['known_refused']:.3f} of the devices are refused as too far"
        )
    for number, row in enumerate(found.get("backgrounds", ()), start=1):
        lines.append(
            f"background {number}: {row['refused']:.3f} of {row['n']} simulated hips on it are "
            f"refused as no AP hip; TOP-1 {row['top1']:.3f}, were they not"
        )
    for name, gate in {"not_ap": found["not_ap"], **found.get("outside", {})}.items():
        if gate:
            share, auroc = gate["refused"], gate["auroc"]
            lines.append(f"gate, {name}: {share:.3f} of {gate['n']} refused, AUROC {auroc:.3f}")
    return "\n".join(lines)


def draw_confusion(counts: Sequence[Sequence[int]], labels: Sequence[str], file: Path) -> None:
    """Draw truth by answer."""
    values = np.array(counts)
    figure, axes = plt.subplots(figsize=(7.5, 6.5))
    axes.imshow(values / np.maximum(values.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, str(value), ha="center", va="center", color="0.2")
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="answer", ylabel="truth")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_roc(probabilities: Array, truth: Labels, labels: Sequence[str], file: Path) -> None:
    """Draw one curve a label, each against all others."""
    figure, axes = plt.subplots(figsize=(6, 5.5))
    for k, name in enumerate(labels):
        true = truth == k
        if true.any() and not true.all():
            wrong, right, _ = roc_curve(true, probabilities[:, k])
            axes.plot(wrong, right, label=f"{name}: {roc_auc_score(true, probabilities[:, k]):.3f}")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
