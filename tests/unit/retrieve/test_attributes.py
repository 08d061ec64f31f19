"""Reading what peers say, however badly they say it."""

from __future__ import annotations

from datetime import date

import pytest
from pydicom.dataset import Dataset
from pynetdicom.presentation import PresentationContext

from dicom_node.retrieve.attributes import instances_of, series_of, study_of
from dicom_node.retrieve.classes import storage_classes, storage_contexts
from dicom_node.retrieve.found import Pulled
from dicom_node.retrieve.operations import ending, together


def said(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_a_study_is_read() -> None:
    found = study_of(
        said(
            StudyInstanceUID="1.2.3",
            StudyDate="20261001",
            ModalitiesInStudy=["dx ", "SR"],
            NumberOfStudyRelatedInstances="12",
        )
    )
    assert found is not None
    assert found.day == date(2026, 10, 1)
    assert found.modalities == {"DX", "SR"}
    assert found.instances == 12


@pytest.mark.parametrize(
    ("values", "day", "instances"),
    [
        ({}, None, None),
        ({"StudyDate": "2026.10.01"}, date(2026, 10, 1), None),
        ({"StudyDate": ""}, None, None),
        ({"NumberOfStudyRelatedInstances": ""}, None, None),
    ],
)
def test_what_a_peer_does_not_say_is_not_known(
    values: dict[str, str], day: date | None, instances: int | None
) -> None:
    found = study_of(said(StudyInstanceUID="1.2.3", **values))
    assert found is not None
    assert (found.day, found.instances, found.modalities) == (day, instances, frozenset())


def test_a_match_without_a_uid_is_none() -> None:
    assert study_of(said(StudyDate="20261001")) is None
    assert study_of(said(StudyInstanceUID="../etc")) is None
    assert series_of(said(Modality="DX")) is None
    assert instances_of([said(SOPInstanceUID="1.2"), said(), said(SOPInstanceUID="a")]) == {"1.2"}


def test_a_series_keeps_only_what_tells_the_body_part() -> None:
    found = series_of(
        said(
            SeriesInstanceUID="1.2.3.4",
            Modality="DX",
            BodyPartExamined="KNEE",
            PatientName="Not^Asked",
            OperatorsName="Neither^This",
        )
    )
    assert found is not None
    assert found.attributes == {"BodyPartExamined": "KNEE"}


def proposed(contexts: list[PresentationContext]) -> set[str]:
    return {str(context.abstract_syntax) for context in contexts}


def test_every_class_is_proposed_within_the_limit_of_an_association() -> None:
    everything = ["CR", "DX", "PX", "MG", "CT", "MR", "PT", "NM", "US", "XA", "RF"]
    contexts = storage_contexts(everything)
    assert len(contexts) == 127
    assert proposed(contexts) == {str(uid) for uid in storage_classes(everything)}
    assert len(storage_contexts(["DX"])) < 40


def answered(code: int | None, **numbers: int) -> Pulled | None:
    status = Dataset()
    if code is not None:
        status.Status = code
    for name, number in numbers.items():
        setattr(status, f"NumberOf{name}Suboperations", number)
    pending = said(Status=0xFF00)
    return ending(iter([(pending, None), (status, None)]))


@pytest.mark.parametrize(
    ("code", "numbers", "completed", "ok"),
    [
        (0x0000, {"Completed": 3}, 3, True),
        (0x0000, {"Completed": 2, "Warning": 1}, 3, True),
        (0x0000, {}, None, True),
        (0xB000, {"Completed": 2, "Failed": 1}, 2, False),
        (0x0000, {"Completed": 2, "Failed": 1}, 2, False),
        (0xC000, {"Completed": 0}, 0, False),
        (0xA702, {}, None, False),
    ],
)
def test_the_ending_tells_what_came(
    code: int, numbers: dict[str, int], completed: int | None, ok: bool
) -> None:
    pulled = answered(code, **numbers)
    assert pulled is not None
    assert (pulled.completed, pulled.ok) == (completed, ok)
    assert f"0x{code:04X}" in pulled.text


def test_no_ending_is_told_apart() -> None:
    assert answered(None) is None
    assert ending(iter([])) is None


def test_endings_of_several_series_are_put_together() -> None:
    good, bad = Pulled(2, 0, "fine", True), Pulled(1, 1, "not fine", False)
    assert together([good, bad, good]) == Pulled(5, 1, "not fine", False)
    assert together([good, Pulled(None, 0, "fine", True)]).completed is None
    assert not together([]).ok
