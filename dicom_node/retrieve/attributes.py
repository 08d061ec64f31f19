"""What is asked of a study or a series, and reading it from a peer's answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.instances import attributes_of
from dicom_node.retrieve.found import FoundSeries, FoundStudy

STUDY_KEYS: Final = ("StudyDate", "StudyTime", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
SERIES_KEYS: Final = (
    "Modality",
    "NumberOfSeriesRelatedInstances",
    "BodyPartExamined",
    "SeriesDescription",
    "ProtocolName",
    "PerformedProcedureStepDescription",
)
_OF_BODY_PART: Final = frozenset(SERIES_KEYS[2:])


def study_of(answer: Dataset) -> FoundStudy | None:
    """Read a match at STUDY level; None when it names no study."""
    said = attributes_of(answer)
    uid = str(said.get("StudyInstanceUID", ""))
    if not is_valid_uid(uid):
        return None
    modalities = said.get("ModalitiesInStudy", [])
    texts = modalities if isinstance(modalities, list) else [modalities]
    return FoundStudy(
        uid,
        _day(said.get("StudyDate")),
        frozenset(str(text).strip().upper() for text in texts),
        _number(said.get("NumberOfStudyRelatedInstances")),
    )


def series_of(answer: Dataset) -> FoundSeries | None:
    """Read a match at SERIES level; None when it names no series."""
    said = attributes_of(answer)
    uid = str(said.get("SeriesInstanceUID", ""))
    if not is_valid_uid(uid):
        return None
    return FoundSeries(
        uid,
        str(said.get("Modality", "")).strip().upper(),
        _number(said.get("NumberOfSeriesRelatedInstances")),
        {keyword: value for keyword, value in said.items() if keyword in _OF_BODY_PART},
    )


def instances_of(answers: Iterable[Dataset]) -> frozenset[str]:
    """Read matches at IMAGE level."""
    uids = (str(attributes_of(answer).get("SOPInstanceUID", "")) for answer in answers)
    return frozenset(uid for uid in uids if is_valid_uid(uid))


def _day(value: object) -> date | None:
    try:
        # a full stop between the parts is the old ACR-NEMA form (PS3.5 Table 6.2-1)
        return datetime.strptime(str(value).replace(".", ""), "%Y%m%d").date()
    except ValueError:
        return None


def _number(value: object) -> int | None:
    try:
        number = int(str(value))
    except ValueError:
        return None
    return number if number >= 0 else None
