"""Even distances, missing slices, two spacings in one series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.inference.spacing import unevenness


def distances(*positions: float) -> np.ndarray:
    return np.diff(np.array(positions, np.float64))


@settings(deadline=None)
@given(
    step=st.floats(0.3, 10),
    count=st.integers(2, 200),
    start=st.floats(-900, 900),
)
def test_any_even_stack_is_even_however_its_positions_are_rounded(
    step: float, count: int, start: float
) -> None:
    assert unevenness(np.diff(np.round(start + step * np.arange(count), 2))) is None


@pytest.mark.parametrize(
    ("gaps", "why"),
    [
        (distances(0, 3, 6, 12, 15), "slices are missing (about 1): 1 of 4 distances"),
        (distances(0, 3, 6, 15, 18, 21, 27), "slices are missing (about 3): 2 of 6 distances"),
        (distances(0, 1, 4, 9, 16), "spaced unevenly: 4 of 4 distances differ from 4.00 mm"),
        (distances(0, 3, 6, 10, 13, 16), "spaced unevenly: 1 of 5 distances"),
    ],
)
def test_what_is_wrong_is_told(gaps: np.ndarray, why: str) -> None:
    found = unevenness(gaps)
    assert found is not None
    assert why in found[0]
    assert found[1] == "send the whole series"


@pytest.mark.parametrize(("first", "second"), [(1.25, 5.0), (5.0, 1.25), (3.0, 4.0), (1.0, 10.0)])
def test_two_spacings_in_one_series_are_told_apart_from_missing_slices(
    first: float, second: float
) -> None:
    found = unevenness(np.array([first] * 40 + [second] * 20))
    assert found is not None
    assert f"40 of {first:.2f} mm and 20 of {second:.2f} mm" in found[0]
    assert "a series of its own" in found[1]
