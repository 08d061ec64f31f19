"""The secondary capture: the picture as a true-colour image of the patient's study.

Secondary Capture Image Storage (PS3.3 A.8.1), RGB, uncompressed: what any viewer shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, DS, TM

from dicom_node.errors import ReportError
from dicom_node.model.findings import ImageReference
from dicom_node.results.body_part import set_body_part
from dicom_node.results.coded import concept_of
from dicom_node.results.headers import numbers, text_of
from dicom_node.results.origin import Origin, restrictions
from dicom_node.results.overlay import Composition

_LOSSY: Final = frozenset(
    {
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.53",
        "1.2.840.10008.1.2.4.55",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
    }
)
"""Transfer syntaxes that (may) lose; C.7.6.1.1.5: what was lossy once stays marked so."""

_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_DIRECTION: Final = re.compile(r"[APRLHF]{1,3}")


def build_sc(
    origin: Origin, composition: Composition, images: Sequence[ImageReference], number: int
) -> Dataset:
    """Make the image of one composition.

    Args:
        images: The source images that it shows, for Source Image Sequence.
        number: Instance Number in the SC series, from 1.

    Raises:
        ReportError: highdicom refused a part of it.
    """
    first = origin.sources[images[0]]
    try:
        image = SCImage(
            pixel_array=composition.pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            # replaced below: highdicom takes the four main directions only
            patient_orientation=("L", "F"),
            study_instance_uid=origin.sources.study_uid,
            series_instance_uid=origin.uid("SC series"),
            series_number=origin.series_number + 1,
            sop_instance_uid=origin.uid("SC", str(number)),
            instance_number=number,
            **origin.equipment(),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportError(
            f"the picture of {origin.findings.algorithm.name}",
            f"it could not be encoded ({type(error).__name__})",
            "check the UIDs and the title of the pipeline's dicom.yaml",
        ) from error
    if len(image.PixelData) % 2:  # a value has an even length (PS3.5 section 7.1)
        image.PixelData += b"\0"
    image.ConversionType = "WSD"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DateOfSecondaryCapture = DA(origin.started.date())
    image.TimeOfSecondaryCapture = TM(origin.started.time())
    image.DerivationDescription = _derivation(origin, composition)
    image.SourceImageSequence = [_reference(origin, reference) for reference in images]
    image["PatientOrientation"].value = _orientation(first, composition)
    set_body_part(origin, first, image)
    _copy_spacing(first, image, composition)
    _copy_annotation([origin.sources[reference] for reference in images], image)
    _mark_lossy(first, image)
    origin.finish(image)
    return image


def _derivation(origin: Origin, composition: Composition) -> str:
    algorithm = origin.findings.algorithm
    parts = [
        f"Findings of {algorithm.name} {algorithm.version} drawn over the windowed source image",
        composition.note,
        *restrictions(algorithm),
    ]
    return ". ".join(part for part in parts if part)[:1024]


def _reference(origin: Origin, image: ImageReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = str(origin.sources[image].SOPClassUID)
    item.ReferencedSOPInstanceUID = image.sop_instance_uid
    if image.frame is not None:
        item.ReferencedFrameNumber = image.frame
    item.PurposeOfReferenceCodeSequence = [
        concept_of(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    return item


def _orientation(source: Dataset, composition: Composition) -> list[str] | None:
    """The source's Patient Orientation, where the picture lies as the source does; else empty."""
    value = source.get("PatientOrientation")
    if not (composition.scale and isinstance(value, MultiValue) and len(value) == 2):
        return None
    sides = [str(v) for v in value]
    return sides if all(_DIRECTION.fullmatch(side) for side in sides) else None


def _copy_spacing(source: Dataset, image: Dataset, composition: Composition) -> None:
    """Pixel Spacing, divided by the scale of the picture; a montage has none."""
    spacing = numbers(source, "PixelSpacing", 2)
    if spacing is None or not composition.scale or min(spacing) <= 0:
        return
    image.PixelSpacing = [DS(s / composition.scale, auto_format=True) for s in spacing]
    kind = text_of(source, "PixelSpacingCalibrationType")
    about = text_of(source, "PixelSpacingCalibrationDescription")
    if kind in ("GEOMETRY", "FIDUCIAL") and about:
        image.PixelSpacingCalibrationType = kind
        image.PixelSpacingCalibrationDescription = about[:64]


def _copy_annotation(sources: Sequence[Dataset], image: Dataset) -> None:
    """Burned In Annotation (0028,0301): what the sources say of their own pixels.

    It tells whether the pixels identify the patient and the date of acquisition (PS3.3
    C.7.6.1). Our words do not, so the sources decide: one YES is enough, NO must be said of
    all; one that does not say leaves it open.
    """
    said = {text_of(source, "BurnedInAnnotation") for source in sources}
    if "YES" in said:
        image.BurnedInAnnotation = "YES"
    elif said == {"NO"}:
        image.BurnedInAnnotation = "NO"


def _mark_lossy(source: Dataset, image: Dataset) -> None:
    syntax = str(getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", ""))
    if text_of(source, "LossyImageCompression") != "01" and syntax not in _LOSSY:
        return
    image.LossyImageCompression = "01"
    ratio = numbers(source, "LossyImageCompressionRatio", 1)
    method = text_of(source, "LossyImageCompressionMethod")
    if ratio is not None:
        image.LossyImageCompressionRatio = DS(ratio[0], auto_format=True)
    if _CODE_STRING.fullmatch(method):
        image.LossyImageCompressionMethod = method
