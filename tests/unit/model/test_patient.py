"""Whether two headers name the same patient: what contradicts, and what only looks different."""

from __future__ import annotations

import pytest

from dicom_node.model.patient import IDENTITY, changed

JANE = {
    "PatientID": "4711",
    "IssuerOfPatientID": "HOSP",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
}


@pytest.mark.parametrize("keyword", IDENTITY)
def test_another_value_is_a_change_of_that_attribute(keyword: str) -> None:
    assert changed(JANE, {**JANE, keyword: "X"}) == [keyword]


@pytest.mark.parametrize("keyword", IDENTITY)
def test_a_value_that_one_of_them_lacks_contradicts_nothing(keyword: str) -> None:
    without = {key: value for key, value in JANE.items() if key != keyword}
    assert changed(JANE, without) == changed(without, JANE) == []
    assert changed(JANE, {**JANE, keyword: " "}) == []


@pytest.mark.parametrize(
    "name", ["DOE^JANE", "Doe^Jane^^", " Doe ^Jane ", "Doe^Jane=Doe^Jane", "doe^jane^"]
)
def test_the_same_name_written_otherwise_is_the_same_name(name: str) -> None:
    assert changed(JANE, {**JANE, "PatientName": name}) == []


def test_a_merge_names_all_that_it_changes() -> None:
    other = {**JANE, "PatientID": "4712", "PatientName": "Roe^Jane"}
    assert changed(JANE, other) == ["PatientID", "PatientName"]
