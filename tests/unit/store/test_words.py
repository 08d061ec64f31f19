"""The words that a study is found by."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.store.words import LONGEST, headline, split, words_of


def test_names_are_split_and_folded() -> None:
    assert list(split("Müller-Lüdenscheidt^Éva ANNA^^Dr.")) == [
        "muller-ludenscheidt",
        "eva",
        "anna",
        "dr.",
    ]
    assert list(split("Yamada^Tarou=山田^太郎")) == ["yamada", "tarou", "山田", "太郎"]


def test_only_the_accession_number_does_not_tell_who_it_is() -> None:
    line = headline({"PatientName": "Doe^Jane", "PatientID": "J1", "AccessionNumber": "A 1"})
    assert {word for word, is_patient in words_of(line) if not is_patient} == {"a", "1"}


def test_a_header_with_odd_values_has_a_headline_all_the_same() -> None:
    line = headline({"PatientID": ["A", "B"], "StudyDate": "2026.01.31", "Modality": 7})
    assert (line.patient_id, line.study_date, line.modality) == ("A", "20260131", "7")
    assert headline({"StudyDate": "unknown"}).study_date == ""


@given(st.text())
def test_whatever_is_given_becomes_words_that_can_be_kept(text: str) -> None:
    for word in split(text):
        assert 0 < len(word) <= LONGEST
        assert word.isprintable()
        assert "\x00" not in word
