"""Calibrated probabilities, prediction sets, and how both are fitted and measured."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import MapTransform
from scipy.optimize import minimize_scalar

Array = npt.NDArray[np.float64]


class Calibrated(MapTransform):  # type: ignore[misc]
    """Logits (or log probabilities) to calibrated probabilities and a prediction set.

    Sets "probabilities" [classes] and "prediction_set", the indices of the set.

    Args:
        temperature: Divides the logits (Guo et al., ICML 2017, arXiv 1706.04599).
        threshold: The set holds each class whose probability is at least 1 - threshold, and the
            most probable one (least ambiguous sets: Sadinle et al., JASA 2019,
            doi 10.1080/01621459.2017.1395341).
    """

    def __init__(
        self, keys: Hashable = "pred", temperature: float = 1.0, threshold: float = 1.0
    ) -> None:
        super().__init__(keys)
        self.temperature = temperature
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        logits = torch.as_tensor(data[self.keys[0]]).double().reshape(-1)
        probabilities = (logits / self.temperature).softmax(0).cpu().numpy()
        out["probabilities"] = probabilities
        out["prediction_set"] = prediction_set(probabilities, self.threshold)
        return out


def prediction_set(probabilities: Array, threshold: float) -> list[int]:
    """Return the indices of the set, most probable first; never empty."""
    order = np.argsort(-probabilities, kind="stable")
    kept = [int(n) for n in order if probabilities[n] >= 1 - threshold]
    return kept or [int(order[0])]


def softmax(logits: Array) -> Array:
    """Return the probabilities of [N, classes] logits."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = shifted / shifted.sum(1, keepdims=True)
    return found


def fit_temperature(logits: Array, truth: npt.NDArray[np.int64]) -> float:
    """Return the temperature of the least negative log likelihood on held-out data."""

    def loss(log_t: float) -> float:
        p = softmax(logits / np.exp(log_t))
        return float(-np.log(p[np.arange(len(truth)), truth] + 1e-12).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded").x))


def fit_threshold(
    probabilities: Array, truth: npt.NDArray[np.int64], coverage: float = 0.9
) -> float:
    """Return the split-conformal threshold for a coverage, from held-out data.

    The score is 1 minus the probability of the true class; its quantile has the finite-sample
    correction (Angelopoulos and Bates, arXiv 2107.07511).
    """
    scores = np.sort(1 - probabilities[np.arange(len(truth)), truth])
    rank = int(np.ceil((len(scores) + 1) * coverage)) - 1
    return float(scores[min(rank, len(scores) - 1)])


def expected_calibration_error(
    probabilities: Array, truth: npt.NDArray[np.int64], bins: int = 15
) -> float:
    """Return the mean gap of confidence and accuracy over equal-width bins of confidence."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(sum(gaps))
