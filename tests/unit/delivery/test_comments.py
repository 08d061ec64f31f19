"""A peer's comment is kept, but for the patient that it quotes."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.delivery.comments import without_patient


@pytest.fixture
def sent() -> Dataset:
    dataset = Dataset()
    dataset.PatientName = "Doe^Jane^Al"
    dataset.PatientID = "A-4711"
    dataset.AccessionNumber = "2026.0815"
    dataset.PatientBirthDate = "19471231"
    return dataset


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        ("Out of resources", "Out of resources"),
        ("DOE^JANE is not known", "…^… is not known"),
        ("no patient a-4711, born 19471231", "no patient …, born …"),
        ("Accession 2026.0815 is closed", "Accession … is closed"),
        ("it does not match the order: A-47", "it does not match the order: …"),
        ("not in the worklist of today: Doe^Jan", "not in the worklist of today: …^…"),
        ("All is lost", "All is lost"),
        ("", ""),
    ],
)
def test_each_word_of_the_patient_is_left_out(sent: Dataset, comment: str, kept: str) -> None:
    assert without_patient(comment, sent) == kept


def test_an_object_without_a_patient_changes_nothing() -> None:
    assert without_patient("Doe is not known", Dataset()) == "Doe is not known"
