"""The patient and study that a result belongs to, taken over from the source as they are."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

from dicom_node.errors import ReportError
from dicom_node.model.findings import Findings, ImageReference
from dicom_node.model.identifiers import is_valid_uid

TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
"""Patient (PS3.3 C.7.1.1) and General Study (C.7.2.1): present, empty when the source has none."""

COPIED: Final = (
    *TYPE_2,
    # SOP Common, C.12.1: how the texts and times below are to be read
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    # Patient, C.7.1.1
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthTime",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    # Clinical Trial Subject and Study, C.7.1.3 and C.7.2.3
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    # General Study, C.7.2.1
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "ReferencedStudySequence",
    "RequestingService",
    # Patient Study, C.7.2.2
    "AdmittingDiagnosesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "Occupation",
    "AdditionalPatientHistory",
    "PatientSexNeutered",
    "AdmissionID",
    "ReasonForVisit",
)

_AS_BYTES: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR"}
    | {"UT"}
)
"""Texts: their bytes are the same in every transfer syntax, so even broken ones are kept."""

UNREADABLE: Final = (
    ValueError,
    BytesLengthException,
    TypeError,
    NotImplementedError,
    AttributeError,
    KeyError,
    OSError,
    EOFError,
    struct.error,
)
"""What pydicom raises on elements that are not what they say."""


class Sources:
    """The headers of the analysed images.

    Attributes:
        first: Header of the first analysed image; patient and study come from it.

    Raises:
        ReportError: An analysed image's header is missing or has no usable UIDs.
    """

    def __init__(self, findings: Findings, headers: Sequence[Dataset]) -> None:
        self._by_uid = {str(h.get("SOPInstanceUID") or ""): h for h in headers}
        wanted = list(findings.images)
        wanted += [image for item in findings.items for image in item.subject.images]
        if not wanted:
            raise ReportError(
                f"the findings of {findings.algorithm.name}",
                "they name no analysed image",
                "a report needs at least one; the pipeline must list what it looked at",
            )
        self.images = tuple(dict.fromkeys(wanted))
        for image in self.images:
            self._check(image)
        self.first = self[self.images[0]]

    def __getitem__(self, image: ImageReference) -> Dataset:
        return self._by_uid[image.sop_instance_uid]

    def by_uid(self, sop_instance_uid: str) -> Dataset:
        """The header of one analysed instance."""
        return self._by_uid[sop_instance_uid]

    @property
    def study_uid(self) -> str:
        return str(self.first.StudyInstanceUID)

    def instance_uids(self) -> list[str]:
        """SOP Instance UIDs of the analysed images, sorted, each once."""
        return sorted({image.sop_instance_uid for image in self.images})

    def headers(self) -> list[Dataset]:
        """Headers of the analysed images, each once."""
        return [self._by_uid[uid] for uid in self.instance_uids()]

    def evidence(self) -> list[Dataset]:
        """Each analysed instance once, with no more than a reference to it needs."""
        return [
            reference_header(self._by_uid[uid])
            for uid in dict.fromkeys(image.sop_instance_uid for image in self.images)
        ]

    def _check(self, image: ImageReference) -> None:
        header = self._by_uid.get(image.sop_instance_uid)
        if header is None:
            raise ReportError(
                f"image {image.sop_instance_uid}",
                "the findings refer to it, but its header was not given",
                "give the headers of all images that the pipeline was given",
            )
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            if not is_valid_uid(text_of(header, keyword)):
                raise ReportError(
                    f"image {image.sop_instance_uid}",
                    f"its {keyword} is not a UID",
                    "such an image cannot be referred to; refuse it on reception",
                )


def reference_header(header: Dataset) -> Dataset:
    """What highdicom needs of a source image; patient and study are copied by us."""
    reference = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(reference, keyword, str(header[keyword].value))
    for keyword in TYPE_2:
        setattr(reference, keyword, None)
    return reference


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Copy the patient's and the study's elements, text byte for byte where it is still raw.

    What the source lacks stays out, but for elements of type 2, which are then empty. Elements
    that are not text and cannot be decoded are left out.
    """
    for keyword in COPIED:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        if tag in source:
            element = _copy(source, tag)
            if element is not None:
                target[tag] = element
                continue
        if keyword in TYPE_2:
            setattr(target, keyword, None)
        elif tag in target:
            del target[tag]


def copied(source: Dataset, keyword: str) -> DataElement | RawDataElement | None:
    """A copy of one element of a source; None when absent or undecodable."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return _copy(source, tag) if tag in source else None


def _copy(source: Dataset, tag: int) -> DataElement | RawDataElement | None:
    element = source.get_item(tag)
    if isinstance(element, RawDataElement):
        vr = dictionary_VR(tag)
        if vr in _AS_BYTES:
            return element._replace(
                VR=vr, value_tell=0, is_implicit_VR=False, is_little_endian=True
            )
    try:
        copied = deepcopy(source[tag])
        if copied.VR == "SQ":
            for item in copied.value:
                list(item.iterall())  # decodes: the source's byte order is not ours
    except UNREADABLE:
        return None
    return copied


def offset_of(header: Dataset) -> tzinfo | None:
    """The zone of Timezone Offset From UTC (0008,0201); None: absent or unreadable."""
    try:
        text = text_of(header, "TimezoneOffsetFromUTC")
        sign = {"+": 1, "-": -1}[text[:1]]
        offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    except (*UNREADABLE, IndexError):
        return None
    return timezone(sign * offset) if offset <= timedelta(hours=14) else None


def local_time(started: datetime, header: Dataset, zone: tzinfo | None) -> datetime:
    """`started` in the zone in which the object's dates and times are to be read.

    That is the source's Timezone Offset From UTC, which the object takes over (PS3.3 C.12.1).
    A source without it keeps its dates in an unstated local time: then `zone`, else the
    machine's.
    """
    aware = started if started.tzinfo else started.replace(tzinfo=UTC)
    return aware.astimezone(offset_of(header) or zone)


def text_of(header: Dataset, keyword: str) -> str:
    """An element's single value as text; "" when absent, unreadable or of several values."""
    try:
        value = header.get(keyword)
    except UNREADABLE:
        return ""
    return "" if value is None or isinstance(value, MultiValue) else str(value).strip()


def numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """A numeric element's values; None when absent, broken or of another multiplicity."""
    try:
        value = header[keyword].value
        values = (
            tuple(float(v) for v in value) if isinstance(value, MultiValue) else (float(value),)
        )
    except UNREADABLE:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None
