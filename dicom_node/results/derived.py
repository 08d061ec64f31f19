"""What the objects that are made of source images have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from highdicom import AlgorithmIdentificationSequence
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from dicom_node.errors import ReportError
from dicom_node.model.findings import Algorithm
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.coded import concept, declare_local_schemes
from dicom_node.results.headers import UNREADABLE, copied, reference_header
from dicom_node.results.origin import Origin

_IMAGE: Final = (
    "ImageType",
    "Modality",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
)

_SERIES: Final = {kind: number for number, kind in enumerate(ResultObject, start=2)}

Made = TypeVar("Made", bound=Dataset)


class UnfitSourceError(ReportError):
    """An object cannot be made of these source images; the report goes without it."""


class Plain:
    """Mixed into highdicom's classes: patient and study are copied by `Origin.finish`."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        """Leave it: highdicom's copy decodes, and refuses a source of a private SOP class."""

    def copy_specimen_information(self, dataset: Dataset) -> None:
        """Leave it, for the same reason."""


def image_header(header: Dataset) -> Dataset:
    """What highdicom needs to derive an image: references and geometry, no patient."""
    made = reference_header(header)
    for keyword in _IMAGE:
        element = copied(header, keyword)
        if element is not None and _is_readable(header, keyword):
            made[keyword] = element
    return made


def _is_readable(header: Dataset, keyword: str) -> bool:
    """False for a broken value: without it highdicom does as for a source that states none."""
    try:
        return header[keyword].value not in (None, "")
    except UNREADABLE:
        return False


def identity(origin: Origin, kind: ResultObject, number: int) -> dict[str, Any]:
    """Series, instance and equipment of one object, for highdicom's constructors."""
    equipment = origin.equipment()
    if kind is ResultObject.PRESENTATION_STATE:  # it has Presentation Creation Date
        del equipment["content_date"], equipment["content_time"]
    return {
        "series_instance_uid": origin.uid(f"{kind} series"),
        "series_number": origin.series_number + _SERIES[kind],
        "sop_instance_uid": origin.uid(str(kind), str(number)),
        "instance_number": number,
        "device_serial_number": origin.findings.algorithm.device_uid,
        **equipment,
    }


def make(origin: Origin, kind: ResultObject, build: Callable[[], Made]) -> Made:
    """Let highdicom build an object, then give it its patient, study and dates.

    Raises:
        UnfitSourceError: highdicom refused a part of it.
    """
    try:
        made = build()
    except (*UNREADABLE, RuntimeError) as error:
        raise UnfitSourceError(
            f"the {str(kind).replace('_', ' ')} of {origin.findings.algorithm.name}",
            f"the source images do not have what it needs ({type(error).__name__})",
            f"take {kind} out of `objects` in the pipeline's dicom.yaml, or report a defect",
        ) from error
    for keyword in ("Content", "PresentationCreation"):
        if f"{keyword}Date" in made:
            setattr(made, f"{keyword}Date", DA(origin.started.date()))
            setattr(made, f"{keyword}Time", TM(origin.started.time()))
    if "ContentLabel" in made and "ContentCreatorName" not in made:
        made.ContentCreatorName = None
    declare_local_schemes(made)
    _name_dimensions(origin, kind, made)
    origin.finish(made)
    return made


def algorithm_sequence(algorithm: Algorithm) -> AlgorithmIdentificationSequence:
    """Algorithm Identification Macro (PS3.3 10.16), with the names that the SR has."""
    return AlgorithmIdentificationSequence(
        algorithm.name,
        concept(algorithm.family),
        algorithm.version,
        source=algorithm.manufacturer,
        parameters={"weights SHA-256": algorithm.weights_sha256},
    )


def _name_dimensions(origin: Origin, kind: ResultObject, made: Dataset) -> None:
    """Derive the Dimension Organization UID, for which highdicom draws a new one each time."""
    if "DimensionOrganizationSequence" not in made:
        return
    uid = origin.uid(f"{kind} dimensions", str(made.InstanceNumber))
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
