from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.transforms.calibration import (
    Calibrated,
    expected_calibration_error,
    fit_temperature,
    fit_threshold,
    prediction_set,
    softmax,
)


def _sampled(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their very softmax: calibrated at temperature 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (number, 4))
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    return logits, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_wrong_scale(factor: float) -> None:
    logits, labels = _sampled(4000, 1)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.1)


def test_prediction_sets_hold_the_truth_as_often_as_promised() -> None:
    logits, labels = _sampled(4000, 2)
    threshold = fit_threshold(softmax(logits), labels, 0.9)
    fresh, truth = _sampled(4000, 3)
    sets = [prediction_set(p, threshold) for p in softmax(fresh)]
    covered = np.mean([t in s for t, s in zip(truth, sets, strict=True)])
    assert covered == pytest.approx(0.9, abs=0.02)


def test_a_prediction_set_is_never_empty_and_starts_with_the_most_probable() -> None:
    assert prediction_set(np.array([0.3, 0.4, 0.3]), 0.1) == [1]
    assert prediction_set(np.array([0.3, 0.5, 0.2]), 0.75) == [1, 0]


def test_calibration_error_is_small_where_calibrated_and_large_where_not() -> None:
    logits, labels = _sampled(4000, 4)
    assert expected_calibration_error(softmax(logits), labels) < 0.03
    assert expected_calibration_error(softmax(logits * 5), labels) > 0.1


def test_the_transform_divides_by_the_temperature() -> None:
    data = Calibrated(temperature=2.0, threshold=0.9)({"pred": torch.tensor([2.0, 0.0])})
    expected = np.exp(1) / (np.exp(1) + 1)
    assert data["probabilities"] == pytest.approx([expected, 1 - expected])
    assert data["prediction_set"] == [0, 1]
