"""Units as a reader knows them."""

from __future__ import annotations

import pytest

from dicom_node.model.wording import unit_sign


@pytest.mark.parametrize(
    ("code", "sign"), [("[hnsf'U]", "HU"), ("mg/cm3", "mg/cm³"), ("mL", "mL"), ("1", "")]
)
def test_a_unit_is_written_as_a_reader_knows_it(code: str, sign: str) -> None:
    assert unit_sign(code) == sign
