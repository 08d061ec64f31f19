"""The paper's own figures: Pearson r, Bland-Altman, RMSE, ROC of osteoporosis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

Values = npt.NDArray[np.float64]


def agreement(true: Values, found: Values, sd: Values | None = None) -> dict[str, Any]:
    """Pearson r with its 95 % interval (Fisher), bias, limits of agreement, RMSE, coverage."""
    n = len(true)
    r = float(stats.pearsonr(true, found).statistic)
    z, width = np.arctanh(np.clip(r, -0.999999, 0.999999)), 1.96 / np.sqrt(max(n - 3, 1))
    difference = found - true
    spread = float(difference.std(ddof=1))
    bias = float(difference.mean())
    out: dict[str, Any] = {
        "n": n,
        "pearson_r": r,
        "pearson_r_95": [float(np.tanh(z - width)), float(np.tanh(z + width))],
        "bias": bias,
        "limits_of_agreement": [bias - 1.96 * spread, bias + 1.96 * spread],
        "rmse": float(np.sqrt((difference**2).mean())),
    }
    if sd is not None:
        out["within_1_sd"] = float((np.abs(difference) <= sd).mean())
        out["within_2_sd"] = float((np.abs(difference) <= 2 * sd).mean())
    return out


def roc(true: Values, found: Values, threshold: float) -> dict[str, Any]:
    """Area under the curve for "true BMD below `threshold`", and the rule's own two rates."""
    positive = true < threshold
    if positive.all() or not positive.any():
        return {"auc": None, "positives": int(positive.sum()), "n": len(true)}
    called = found < threshold
    return {
        "auc": float(roc_auc_score(positive, -found)),
        "positives": int(positive.sum()),
        "n": len(true),
        "sensitivity": float((called & positive).sum() / positive.sum()),
        "specificity": float((~called & ~positive).sum() / (~positive).sum()),
    }


def draw(true: Values, found: Values, threshold: float, unit: str, file: Path) -> None:
    """Scatter, Bland-Altman and ROC side by side."""
    figure, (scatter, altman, curve) = plt.subplots(1, 3, figsize=(15, 4.6))
    ends = [float(min(true.min(), found.min())) - 5, float(max(true.max(), found.max())) + 5]
    scatter.plot(ends, ends, color="0.6", linewidth=1)
    scatter.scatter(true, found, s=14)
    numbers = agreement(true, found)
    scatter.set(
        xlabel=f"true BMD ({unit})",
        ylabel=f"found BMD ({unit})",
        title=f"r = {numbers['pearson_r']:.3f}, n = {len(true)}",
    )
    low, high = numbers["limits_of_agreement"]
    altman.scatter((true + found) / 2, found - true, s=14)
    for level, style in ((numbers["bias"], "-"), (low, "--"), (high, "--")):
        altman.axhline(level, linestyle=style, color="0.4")
        altman.annotate(f"{level:.1f}", (1.0, level), xycoords=("axes fraction", "data"))
    altman.set(xlabel=f"mean ({unit})", ylabel=f"found - true ({unit})", title="Bland-Altman")
    rates = roc(true, found, threshold)
    if rates["auc"] is not None:
        wrong, right, _ = roc_curve(true < threshold, -found)
        curve.plot(wrong, right)
        curve.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        curve.set(title=f"BMD < {threshold:g} {unit}: AUC {rates['auc']:.3f}")
    curve.set(xlabel="1 - specificity", ylabel="sensitivity")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
