"""Figures of a classification with known answers, and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_DRAWS: Final = 1000
_BINS: Final = 15


def classification_figures(
    probabilities: Values,
    truth: Indices,
    sets: Sequence[Sequence[int]],
    labels: Sequence[str],
    *,
    ordered: bool = False,
    groups: Sequence[str] | None = None,
    sides: Sequence[str] = (),
) -> dict[str, Any]:
    """Return accuracy, F1, calibration, sets, and each label's and side's figures.

    Args:
        probabilities: [N, classes], calibrated.
        truth: [N].
        sets: Each image's prediction set.
        labels: What the classes are called in the table.
        ordered: The labels have an order: kappa with quadratic weights and the mean absolute
            error are added.
        groups: Images of one patient have one name: the bootstrap draws patients, as the images
            of one are no independent cases.
        sides: Each image's side, "R" or "L", or "" where it is not known.
    """
    classes = len(labels)
    answers = probabilities.argmax(1)
    counts = confusion(truth, answers, classes)
    covered = np.array([t in s for t, s in zip(truth, sets, strict=True)])
    area = [auc(probabilities[:, k], truth == k) for k in range(classes)]
    named = [value for value in area if value is not None]
    found: dict[str, Any] = {
        "n": len(truth),
        **{k: _plain(v) for k, v in _measures(counts, ordered).items()},
        "auc_macro": float(np.mean(named)) if named else None,
        "ece": expected_calibration_error(probabilities, truth),
        "coverage": float(covered.mean()),
        "mean_set_size": float(np.mean([len(s) for s in sets])),
        "per_class": _per_class(counts, labels, area),
        "confusion": counts.astype(int).tolist(),
    }
    found["intervals"] = _intervals(truth, answers, covered, classes, ordered, groups)
    found["intervals_drawn_by"] = "patient" if groups and any(groups) else "image"
    if known := sorted(set(sides) - {""}):
        found["by_side"] = {
            side: _of_part(
                np.array(sides) == side, truth, answers, covered, classes, ordered, groups
            )
            for side in known
        }
    return found


def confusion(truth: Indices, answers: Indices, classes: int) -> Values:
    """Return counts [truth, answer]."""
    flat = np.bincount(truth * classes + answers, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.float64)


def f1_scores(counts: Values) -> Values:
    """Return the F1 of each class; 0 where there is neither an answer nor a case."""
    total = counts.sum(0) + counts.sum(1)
    found = np.zeros(len(counts))
    np.divide(2 * counts.diagonal(), total, out=found, where=total > 0)
    return found


def quadratic_kappa(counts: Values) -> float:
    """Return Cohen's kappa with quadratic weights; nan where all is one class."""
    place = np.arange(len(counts))
    distance = (place[:, None] - place) ** 2
    chance = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    expected = float((distance * chance).sum())
    return 1 - float((distance * counts).sum()) / expected if expected else float("nan")


def auc(scores: Values, positive: npt.NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve (Mann-Whitney); None with one kind of case only."""
    wanted = int(positive.sum())
    if wanted in (0, len(positive)):
        return None
    _, place, repeats = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(repeats) - (repeats - 1) / 2)[place]
    above = float(ranks[positive].sum()) - wanted * (wanted + 1) / 2
    return above / (wanted * (len(positive) - wanted))


def roc_curve(scores: Values, positive: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Return the curve's points: false and true positive rate, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    right = np.cumsum(positive[order])[last]
    wrong = last + 1 - right
    return np.r_[0.0, wrong / max(1, (~positive).sum())], np.r_[0.0, right / positive.sum()]


def reliability(probabilities: Values, truth: Indices, bins: int = _BINS) -> list[list[float]]:
    """Return (confidence, accuracy, share of the images) of each bin that is not empty."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        [float(confidence[here].mean()), float(right[here].mean()), float(here.mean())]
        for here in (place == b for b in range(bins))
        if here.any()
    ]


def expected_calibration_error(probabilities: Values, truth: Indices) -> float:
    """Return the mean gap of confidence and accuracy over bins of equal width."""
    return float(sum(abs(c - a) * share for c, a, share in reliability(probabilities, truth)))


def _measures(counts: Values, ordered: bool) -> dict[str, float]:
    total = counts.sum()
    f1 = f1_scores(counts)
    found = {
        "accuracy": float(counts.trace() / total),
        "f1_macro": float(f1.mean()),
        "f1_weighted": float((f1 * counts.sum(1)).sum() / total),
    }
    if ordered:
        place = np.arange(len(counts))
        distance = np.abs(place[:, None] - place)
        found["quadratic_kappa"] = quadratic_kappa(counts)
        found["mae"] = float((distance * counts).sum() / total)
    return found


def _per_class(
    counts: Values, labels: Sequence[str], area: Sequence[float | None]
) -> list[dict[str, Any]]:
    cases, said = counts.sum(1), counts.sum(0)
    f1 = f1_scores(counts)
    return [
        {
            "label": label,
            "n": int(cases[k]),
            "recall": float(counts[k, k] / cases[k]) if cases[k] else None,
            "precision": float(counts[k, k] / said[k]) if said[k] else None,
            "f1": float(f1[k]),
            "auc": area[k],
        }
        for k, label in enumerate(labels)
    ]


def _of_part(
    chosen: npt.NDArray[np.bool_],
    truth: Indices,
    answers: Indices,
    covered: npt.NDArray[np.bool_],
    classes: int,
    ordered: bool,
    groups: Sequence[str] | None,
) -> dict[str, Any]:
    names = None if groups is None else [groups[n] for n in np.flatnonzero(chosen).tolist()]
    truth, answers, covered = truth[chosen], answers[chosen], covered[chosen]
    measures = _measures(confusion(truth, answers, classes), ordered)
    return {
        "n": len(truth),
        **{name: _plain(value) for name, value in measures.items()},
        "coverage": float(covered.mean()),
        "intervals": _intervals(truth, answers, covered, classes, ordered, names),
    }


def _intervals(
    truth: Indices,
    answers: Indices,
    covered: npt.NDArray[np.bool_],
    classes: int,
    ordered: bool,
    groups: Sequence[str] | None,
) -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    if groups is not None and any(groups):
        # an image without a patient's name is a group of its own
        names = [group or f"image {n}" for n, group in enumerate(groups)]
        _, place = np.unique(names, return_inverse=True)
    else:
        place = np.arange(len(truth))
    members = place.max() + 1
    values: dict[str, list[float]] = {}
    for _ in range(_DRAWS):
        weight = np.bincount(rng.integers(members, size=members), minlength=members)[place]
        counts = np.bincount(
            truth * classes + answers, weights=weight, minlength=classes * classes
        ).reshape(classes, classes)
        drawn = _measures(counts.astype(np.float64), ordered)
        drawn["coverage"] = float((covered * weight).sum() / weight.sum())
        for name, value in drawn.items():
            values.setdefault(name, []).append(value)
    return {
        name: [round(float(end), 4) for end in np.nanpercentile(drawn, (2.5, 97.5))]
        for name, drawn in values.items()
        if not np.isnan(drawn).all()
    }


def _plain(value: float) -> float | None:
    """JSON has no nan."""
    return None if np.isnan(value) else value
