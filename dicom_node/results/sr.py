"""The structured report: TID 1500 Imaging Measurement Report in Comprehensive SR.

Comprehensive SR and not Comprehensive 3D SR: nothing here needs 3D coordinates, and more viewers
and archives take it (DCMTK's default storage contexts lack Comprehensive 3D SR). For peers that
do not take it, the same document as Enhanced SR, and its content as Basic Text SR.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from highdicom.sr import (
    ComprehensiveSR,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    RelationshipTypeValues,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as PydicomCode

from dicom_node.errors import ReportError
from dicom_node.model.documents import DocumentClass
from dicom_node.results.coded import concept, declare_local_schemes
from dicom_node.results.derived import Plain
from dicom_node.results.groups import algorithm_identification, measurement_groups
from dicom_node.results.observer import device_observer
from dicom_node.results.origin import Origin, restrictions
from dicom_node.results.procedures import procedure_reported

TITLE: Final = PydicomCode("126000", "DCM", "Imaging Measurement Report")


class _Comprehensive(Plain, ComprehensiveSR):
    pass


def build_sr(origin: Origin) -> Dataset:
    """Make the report's SR.

    Content, in order: language, observer (TID 1004: the algorithm as a device), procedure
    reported, the statement as text (121071, DCM, "Finding"), the restrictions of use and notes
    as comments, then a measurement group per subject. Nothing in it needs more than Enhanced SR
    allows (PS3.3 Table A.35.2-2): `forms.other_form` relies on it.

    Raises:
        ReportError: highdicom refused a part of it.
    """
    try:
        report = _Comprehensive(
            evidence=origin.sources.evidence(),
            content=_content(origin)[0],
            series_instance_uid=origin.uid("SR series"),
            series_number=origin.series_number,
            sop_instance_uid=document_uid(origin, DocumentClass.COMPREHENSIVE),
            instance_number=1,
            is_complete=True,
            is_verified=False,
            performed_procedure_codes=[concept(origin.findings.procedure)],
            previous_versions=_previous(origin),
            **origin.equipment(),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportError(
            f"the SR of {origin.findings.algorithm.name}",
            f"it could not be encoded ({type(error).__name__})",
            "check the codes, units and UIDs of the pipeline's dicom.yaml",
        ) from error
    origin.finish(report)
    declare_local_schemes(report)
    return report


def document_uid(origin: Origin, kind: DocumentClass) -> str:
    """SOP Instance UID of the report in one of its forms."""
    return origin.uid("SR", *([] if kind is DocumentClass.COMPREHENSIVE else [str(kind)]))


def _previous(origin: Origin) -> list[Dataset] | None:
    """The document that this one replaces, for Predecessor Documents Sequence (PS3.3 C.17.2)."""
    if origin.replaces is None:
        return None
    earlier = Dataset()
    earlier.SOPClassUID, earlier.SOPInstanceUID = origin.replaces.documents[0]
    earlier.SeriesInstanceUID = origin.replaces.series_instance_uid
    earlier.StudyInstanceUID = origin.sources.study_uid
    return [earlier]


def _content(origin: Origin) -> MeasurementReport:
    findings = origin.findings
    observer = device_observer(findings.algorithm)
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=procedure_reported(findings.procedure, origin.sources.first),
        imaging_measurements=measurement_groups(origin) or [_whole(origin)],
        title=TITLE,
    )
    root = content[0].ContentSequence
    # before Imaging Measurements, so that a reader sees the words first
    at = next(i for i, item in enumerate(root) if item.name == codes.DCM.ImagingMeasurements)
    for item in reversed(list(_words(origin))):
        root.insert(at, item)
    return content


def _words(origin: Origin) -> Iterator[TextContentItem]:
    findings = origin.findings
    yield _text(codes.DCM.Finding, findings.statement or "No statement.")
    for text in (*restrictions(findings.algorithm), *findings.notes):
        yield _text(codes.DCM.Comment, text)


def _whole(origin: Origin) -> MeasurementsAndQualitativeEvaluations:
    """A group for a report without subjects: TID 1500 wants at least one."""
    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(uid=origin.uid("tracking", "all"), identifier="study"),
        finding_type=codes.SCT.NotEvaluated,
        algorithm_id=algorithm_identification(origin.findings.algorithm),
    )


def _text(name: PydicomCode, value: str) -> TextContentItem:
    return TextContentItem(name, value, relationship_type=RelationshipTypeValues.CONTAINS)
