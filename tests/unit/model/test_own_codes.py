"""Our own codes can be encoded and are told apart."""

from __future__ import annotations

import pytest

from dicom_node.model import own_codes
from dicom_node.model.codes import OWN_SCHEME, Code
from dicom_node.model.own_codes import OWN_CODES


@pytest.mark.parametrize("code", OWN_CODES.values(), ids=list(OWN_CODES))
def test_each_own_code_fits_its_value_representations(code: Code) -> None:
    assert code.scheme == OWN_SCHEME
    assert 0 < len(code.value) <= 16
    assert 0 < len(code.meaning) <= 64
    assert code.value.isascii()
    assert code.meaning.isascii()


def test_every_code_of_the_file_is_in_the_table_once() -> None:
    all_codes = [value for value in vars(own_codes).values() if isinstance(value, Code)]
    assert len(all_codes) == len(OWN_CODES)
    assert len({code.meaning for code in all_codes}) == len(all_codes)
