"""Charts of an evaluation, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from dicom_node.training.figures import Indices, Values, auc, reliability, roc_curve


def draw_all(
    probabilities: Values,
    truth: Indices,
    counts: Sequence[Sequence[int]],
    labels: Sequence[str],
    folder: Path,
) -> list[Path]:
    """Draw confusion.png, roc.png and calibration.png; return their paths."""
    files = [folder / f"{name}.png" for name in ("confusion", "roc", "calibration")]
    draw_confusion(counts, labels, files[0])
    draw_roc(probabilities, truth, labels, files[1])
    draw_calibration(probabilities, truth, files[2])
    return files


def draw_confusion(counts: Sequence[Sequence[int]], labels: Sequence[str], file: Path) -> None:
    """Draw truth by answer, shaded by the share of the truth."""
    values = np.array(counts)
    size = max(5.0, 0.7 * len(labels))
    figure, axes = plt.subplots(figsize=(size + 0.5, size))
    shares = values / np.maximum(values.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if shares[row, column] > 0.6 else "0.2"
        axes.text(column, row, str(value), ha="center", va="center", color=ink)
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=45 if max(map(len, labels)) > 6 else 0)
    axes.set_yticks(places, labels)
    axes.set(xlabel="answer", ylabel="truth")
    _save(figure, file)


def draw_roc(probabilities: Values, truth: Indices, labels: Sequence[str], file: Path) -> None:
    """Draw each label's curve against the rest."""
    figure, axes = plt.subplots(figsize=(5.5, 5))
    for index, label in enumerate(labels):
        area = auc(probabilities[:, index], truth == index)
        if area is not None:
            wrong, right = roc_curve(probabilities[:, index], truth == index)
            axes.plot(wrong, right, label=f"{label}: AUC {area:.3f}")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    _save(figure, file)


def draw_calibration(probabilities: Values, truth: Indices, file: Path) -> None:
    """Draw how often the answer is right against how sure it was, and how many were so sure."""
    sure, right, share = np.array(reliability(probabilities, truth)).T
    figure, (axes, below) = plt.subplots(2, 1, figsize=(5, 6), sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.plot(sure, right, marker="o")
    axes.set(ylabel="share right", ylim=(0, 1.02))
    below.bar(sure, share, width=0.04)
    below.set(xlabel="probability of the answer", ylabel="share of images", xlim=(0, 1))
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
