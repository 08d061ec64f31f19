"""Drift: how far the answers of a week are from the first ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.store.pipeline_scores import stability_index

_PARTS = st.lists(st.floats(0.001, 1), min_size=5, max_size=5).map(
    lambda parts: [part / sum(parts) for part in parts]
)


def test_equal_distributions_differ_by_nothing() -> None:
    assert stability_index([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]) == 0


def test_the_index_is_that_of_the_textbook() -> None:
    expected = 0.1 * math.log(0.6 / 0.5) + -0.1 * math.log(0.4 / 0.5)
    assert stability_index([0.5, 0.5], [0.6, 0.4]) == pytest.approx(expected)


def test_an_empty_part_is_a_shift_and_no_division_by_nothing() -> None:
    assert 0.25 < stability_index([0.5, 0.5, 0.0], [0.4, 0.4, 0.2]) < math.inf


@given(_PARTS, _PARTS)
def test_the_index_is_never_negative_and_knows_no_direction(
    first: list[float], second: list[float]
) -> None:
    found = stability_index(first, second)
    assert found >= 0
    assert found == pytest.approx(stability_index(second, first))
