"""Figures of osteoporosis networks: of the two-class label, and of three classes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_node.training.figures import auc, classification_figures
from pipelines.osteoporosis.data import CLASSES, UNKNOWN, Indices
from pipelines.transforms.calibration import prediction_set

Values = npt.NDArray[np.float64]

_DRAWS: Final = 1000


def figures_of(
    probabilities: Values, two: Indices, three: Indices, groups: Indices
) -> dict[str, Any]:
    """Return AUC, accuracy, sensitivity and specificity of the two-class label; of three classes.

    With three classes the score for the two-class label is 1 - P(normal). Intervals are 95 %, by
    bootstrap of the groups.

    Args:
        probabilities: [N, classes]; the others as in `data.Joints`.
    """
    score = 1 - probabilities[:, 0]
    positive = two == 1
    said = score >= 0.5
    found: dict[str, Any] = {
        "n": len(two),
        "groups": len(np.unique(groups)),
        "auc": auc(score, positive),
        "auc_95": auc_interval(score, positive, groups),
        "accuracy": float((said == positive).mean()),
        "sensitivity": float(said[positive].mean()) if positive.any() else None,
        "specificity": float((~said[~positive]).mean()) if not positive.all() else None,
    }
    known = three != UNKNOWN
    if known.any():
        truth = three[known]
        if probabilities.shape[1] == 3:
            certain = classification_figures(
                probabilities[known],
                truth,
                [prediction_set(row, 0.9) for row in probabilities[known]],
                CLASSES,
                groups=[str(g) for g in groups[known]],
            )
            kept = ("n", "accuracy", "f1_macro", "auc_macro", "per_class", "confusion", "intervals")
            found["three_classes"] = {name: certain[name] for name in kept}
        found["auc_of_certain_osteoporosis"] = auc(probabilities[known, -1], truth == 2)
    return found


def matched_auc(
    score: Values, positive: npt.NDArray[np.bool_], size: Values, tolerance: float = 0.05
) -> float | None:
    """Return the AUC over pairs of one positive and one negative image of nearly the same size.

    What a score owes to the size alone does not count in it. None: there is no such pair.
    """
    above, below = np.flatnonzero(positive), np.flatnonzero(~positive)
    near = np.abs(np.log(size[above][:, None] / size[below][None, :])) < tolerance
    difference = score[above][:, None] - score[below][None, :]
    won = (difference > 0) + 0.5 * (difference == 0)
    return float(won[near].mean()) if near.any() else None


def auc_interval(
    score: Values, positive: npt.NDArray[np.bool_], groups: Indices
) -> list[float] | None:
    """Return the 95 % interval of the AUC; groups are drawn, not images."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = []
    for _ in range(_DRAWS):
        chosen = np.concatenate([members[n] for n in rng.integers(len(members), size=len(members))])
        value = auc(score[chosen], positive[chosen])
        if value is not None:
            drawn.append(value)
    return [round(float(v), 4) for v in np.percentile(drawn, (2.5, 97.5))] if drawn else None
