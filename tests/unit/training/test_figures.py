"""Figures of answers whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from dicom_node.training import figures
from dicom_node.training.figures import classification_figures

NAMES = ("0", "1", "2", "3", "4")


def test_figures_of_known_answers() -> None:
    truth = np.array([0, 1, 2, 3, 4, 4])
    said = np.array([0, 1, 2, 3, 4, 2])
    sets = [[k] for k in said]
    found = classification_figures(np.eye(5)[said] * 0.9 + 0.02, truth, sets, NAMES, ordered=True)
    assert found["n"] == 6
    assert found["accuracy"] == pytest.approx(5 / 6)
    assert found["mae"] == pytest.approx(2 / 6)
    assert found["coverage"] == pytest.approx(5 / 6)
    assert found["mean_set_size"] == 1
    assert found["confusion"][4] == [0, 0, 1, 0, 1]
    assert found["per_class"][4]["recall"] == 0.5
    assert found["per_class"][2]["precision"] == 0.5
    assert found["ece"] == pytest.approx(0.92 - 5 / 6)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_they_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, said = (np.array(values) for values in zip(*pairs, strict=True))
    counts = figures.confusion(truth, said, 4)
    expected = f1_score(truth, said, average=None, labels=range(4), zero_division=0)
    assert figures.f1_scores(counts) == pytest.approx(expected)
    if len(set(truth) | set(said)) > 1:
        kappa = cohen_kappa_score(truth, said, weights="quadratic", labels=range(4))
        assert figures.quadratic_kappa(counts) == pytest.approx(kappa)
    area = figures.auc(said.astype(float), truth == 1)
    if area is not None:
        assert area == pytest.approx(roc_auc_score(truth == 1, said))


def test_one_kind_of_case_has_no_area_and_no_kappa() -> None:
    truth = np.zeros(3, dtype=np.int64)
    found = classification_figures(np.eye(2)[truth], truth, [[0]] * 3, ("a", "b"), ordered=True)
    assert found["per_class"][0]["auc"] is None
    assert found["quadratic_kappa"] is None
    assert found["per_class"][1]["recall"] is None


def test_the_curve_runs_from_corner_to_corner_through_ties() -> None:
    wrong, right = figures.roc_curve(
        np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    )
    assert wrong.tolist() == [0, 0, 0.5, 1]
    assert right.tolist() == [0, 0.5, 1, 1]


def test_intervals_are_wider_when_images_of_one_patient_stand_together() -> None:
    rng = np.random.default_rng(3)
    right = np.repeat(rng.random(40) < 0.7, 10)
    truth = np.zeros(len(right), dtype=np.int64)
    said = np.where(right, 0, 1)
    patients = [f"p{n // 10}" for n in range(len(right))]

    def width(groups: list[str] | None) -> float:
        sets = [[int(k)] for k in said]
        found = classification_figures(np.eye(2)[said], truth, sets, ("a", "b"), groups=groups)
        low, high = found["intervals"]["accuracy"]
        assert low <= found["accuracy"] <= high
        return float(high - low)

    assert width(patients) > 2 * width(None)


def test_each_side_has_the_figures_of_its_own_images() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2, 2])
    said = np.array([0, 1, 2, 1, 1, 0, 2])
    sides = ["R", "R", "R", "L", "L", "L", ""]
    sets = [[int(k)] for k in said]
    found = classification_figures(
        np.eye(3)[said], truth, sets, ("a", "b", "c"), ordered=True, sides=sides
    )
    right, left = found["by_side"]["R"], found["by_side"]["L"]
    assert found["by_side"].keys() == {"R", "L"}, "an image without a side is in the whole only"
    assert (right["n"], right["accuracy"], right["quadratic_kappa"], right["mae"]) == (3, 1, 1, 0)
    assert (left["n"], left["mae"], left["coverage"]) == (3, 1, pytest.approx(1 / 3))
    assert left["accuracy"] == pytest.approx(1 / 3)
    assert left["intervals"]["accuracy"][0] < 1 == right["intervals"]["accuracy"][0]
    alone = classification_figures(np.eye(3)[said], truth, sets, ("a", "b", "c"))
    assert "by_side" not in alone
