"""Units and probabilities as a reader knows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.model.wording import percent, unit_sign, with_uncertainty


@pytest.mark.parametrize(
    ("code", "sign"),
    [
        ("[hnsf'U]", "HU"),
        ("mg/cm3", "mg/cm³"),
        ("cm3", "cm³"),
        ("mm2", "mm²"),
        ("mm2/s", "mm²/s"),
        ("mL", "mL"),
        ("{score}", "score"),
        ("{m2}", "m2"),
        ("1", ""),
    ],
)
def test_a_unit_is_written_as_a_reader_knows_it(code: str, sign: str) -> None:
    assert unit_sign(code) == sign


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (64.02, 5.07, "64.0 ± 5.1"),
        (118.9, 8.2, "119 ± 8"),
        (58, 12.3, "58 ± 12"),
        (0.6204, 0.0312, "0.620 ± 0.031"),
        (-4.5, 9.96, "-4.5 ± 10.0"),
        (7, 0, "7 ± 0"),
    ],
)
def test_a_number_has_no_more_places_than_its_uncertainty_leaves(
    value: float, uncertainty: float, text: str
) -> None:
    assert with_uncertainty(value, uncertainty) == text


@given(st.floats(0, 1))
def test_no_probability_is_shown_as_certain(probability: float) -> None:
    shown = percent(probability)
    assert shown.endswith(" %")
    assert shown not in ("0 %", "100 %")
