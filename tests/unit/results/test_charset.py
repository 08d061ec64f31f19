"""Our texts fit the source's character set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_node.results.charset import charsets_of, fit_texts, plain_ascii

STATEMENT = "BMD 120 ± 8 mg/cm³, ≥ 120"


def fitted(text: str, charsets: list[str]) -> str:
    inner = Dataset()
    inner.TextValue = text
    outer = Dataset()
    outer.ContentSequence = [inner]
    fit_texts(outer, charsets)
    return str(outer.ContentSequence[0].TextValue)


@pytest.mark.parametrize("charsets", [["ISO_IR 192"], ["GB18030"]])
def test_unicode_sets_keep_every_sign(charsets: list[str]) -> None:
    assert fitted(STATEMENT, charsets) == STATEMENT


@pytest.mark.parametrize(
    "charsets", [[], ["ISO_IR 6"], ["ISO_IR 144"], ["", "ISO 2022 IR 87"], ["no such set"]]
)
def test_signs_are_spelt_out_where_the_set_lacks_them(charsets: list[str]) -> None:
    assert fitted(STATEMENT, charsets) == "BMD 120 +/- 8 mg/cm3, >= 120"


def test_latin_1_keeps_what_it_has() -> None:
    assert fitted("BMD 120 ± 8", ["ISO_IR 100"]) == "BMD 120 ± 8"


def test_a_statement_in_the_sources_language_is_kept() -> None:
    assert fitted("右膝：KL分類2", ["", "ISO 2022 IR 87"]) == "右膝：KL分類2"
    assert fitted("правое колено", ["ISO_IR 144"]) == "правое колено"


@given(st.text())
def test_plain_ascii_is_ascii(text: str) -> None:
    assert plain_ascii(text).isascii()


@given(st.text(st.characters(codec="ascii")))
def test_ascii_stays_as_it_is(text: str) -> None:
    assert plain_ascii(text) == text


def test_character_sets_are_read_from_one_or_more_values() -> None:
    header = Dataset()
    assert charsets_of(header) == []
    header.SpecificCharacterSet = "ISO_IR 100"
    assert charsets_of(header) == ["ISO_IR 100"]
    header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    assert charsets_of(header) == ["", "ISO 2022 IR 87"]
