"""The gate refuses what is not right; each row breaks one thing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import ReportError
from dicom_node.results.check import check_object
from dicom_node.results.report import build_report
from tests.unit.results import samples

HEADER = samples.knee_header()
PICTURE = np.zeros((64, 48), np.uint8)
REPORT = build_report(
    samples.findings(HEADER, [samples.kl(samples.one_knee(HEADER))]),
    [HEADER],
    {str(HEADER.SOPInstanceUID): PICTURE},
    samples.SPEC,
)
SR, SC = (item.dataset for item in REPORT.objects)

Break = Callable[[Dataset], None]


def _group(sr: Dataset) -> Dataset:
    part = next(i for i in sr.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    return part.ContentSequence[0]


def _drop(parent: Dataset, code: str) -> None:
    parent.ContentSequence = [
        i for i in parent.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue != code
    ]


def _first(parent: Dataset, kind: str) -> Dataset:
    return next(i for i in parent.ContentSequence if i.ValueType == kind)


def _delete(keyword: str) -> Break:
    def change(dataset: Dataset) -> None:
        del dataset[keyword]

    return change


def _put(keyword: str, value: object) -> Break:
    def change(dataset: Dataset) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of the fault that is put in
            setattr(dataset, keyword, value)

    return change


def _bad_number(sr: Dataset) -> None:
    _first(_group(sr), "NUM").MeasuredValueSequence[0].NumericValue = None


def _wrong_relation(sr: Dataset) -> None:
    _first(_group(sr), "NUM").RelationshipType = "HAS CONCEPT MOD"


def _other_image(sr: Dataset) -> None:
    image = _first(_group(sr), "IMAGE")
    image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.4.5"


def _no_such_frame(sr: Dataset) -> None:
    _first(_group(sr), "IMAGE").ReferencedSOPSequence[0].ReferencedFrameNumber = 7


def _code_without_meaning(sr: Dataset) -> None:
    _first(_group(sr), "CODE").ConceptCodeSequence[0].CodeMeaning = ""


def _long_code(sr: Dataset) -> None:
    with pytest.warns(UserWarning, match="exceeds the maximum length"):
        _first(_group(sr), "CODE").ConceptCodeSequence[0].CodeValue = "x" * 17


def _no_device(dataset: Dataset) -> None:
    del dataset.ContributingEquipmentSequence[0].DeviceUID


SR_FAULTS: dict[str, tuple[Break, str]] = {
    "no statement": (lambda d: _drop(d, "121071"), "Finding as text"),
    "no restriction of use": (lambda d: _drop(d, "121106"), "restriction of use"),
    "no procedure": (lambda d: _drop(d, "121058"), "Procedure reported"),
    "no observer": (lambda d: _drop(d, "121012"), "Device Observer UID"),
    "no measurements": (lambda d: _drop(d, "126010"), "Measurement Group"),
    "no tracking": (lambda d: _drop(_group(d), "112040"), "Tracking Unique Identifier"),
    "no algorithm": (lambda d: _drop(_group(d), "111001"), "Algorithm Name"),
    "another template": (
        lambda d: setattr(d.ContentTemplateSequence[0], "TemplateIdentifier", "2000"),
        "TID 1500",
    ),
    "number without value": (_bad_number, "no finite value"),
    "relation not allowed": (_wrong_relation, "may not have NUM"),
    "image that is no source": (_other_image, "not a source"),
    "frame that is not there": (_no_such_frame, "a frame"),
    "code without meaning": (_code_without_meaning, "lacks its value"),
    "code too long": (_long_code, "CodeValue does not fit"),
    "scheme not declared": (_delete("CodingSchemeIdentificationSequence"), "not declared"),
    "verified by nobody": (_put("VerificationFlag", "VERIFIED"), "UNVERIFIED"),
    "no evidence": (_delete("CurrentRequestedProcedureEvidenceSequence"), "evidence"),
    "device without UID": (_no_device, "DeviceUID"),
    "no equipment": (_delete("ContributingEquipmentSequence"), "ContributingEquipmentSequence"),
    "another study": (_put("StudyInstanceUID", "1.2.3"), "StudyInstanceUID"),
    "UID with a leading zero": (_put("SeriesInstanceUID", "1.02.3"), "not a UID"),
    "no type 2 element": (_delete("StudyID"), "StudyID is missing"),
    "a source's own UID": (_put("SOPInstanceUID", str(HEADER.SOPInstanceUID)), "of a source"),
    "a source's series": (_put("SeriesInstanceUID", str(HEADER.SeriesInstanceUID)), "of a source"),
}

SC_FAULTS: dict[str, tuple[Break, str]] = {
    "pixels cut off": (lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "PixelData"),
    "not true colour": (_put("PhotometricInterpretation", "MONOCHROME2"), "RGB"),
    "not derived": (_put("ImageType", ["ORIGINAL", "PRIMARY"]), "ImageType"),
    "no source": (_delete("SourceImageSequence"), "SourceImageSequence"),
    "no derivation": (_delete("DerivationDescription"), "DerivationDescription"),
    "unknown kind": (_put("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "SOP class"),
}


def test_what_we_make_passes() -> None:
    check_object(SR, [HEADER])
    check_object(SC, [HEADER])


@pytest.mark.parametrize("fault", SR_FAULTS)
def test_a_faulty_sr_is_refused(fault: str) -> None:
    change, why = SR_FAULTS[fault]
    broken = deepcopy(SR)
    change(broken)
    with pytest.raises(ReportError, match=why):
        check_object(broken, [HEADER])


@pytest.mark.parametrize("fault", SC_FAULTS)
def test_a_faulty_picture_is_refused(fault: str) -> None:
    change, why = SC_FAULTS[fault]
    broken = deepcopy(SC)
    change(broken)
    with pytest.raises(ReportError, match=why):
        check_object(broken, [HEADER])


def test_a_refusal_names_no_patient() -> None:
    broken = deepcopy(SR)
    del broken.ContentSequence
    with pytest.raises(ReportError) as refused:
        check_object(broken, [HEADER])
    assert "Phantom" not in str(refused.value)
    assert "PHANTOM" not in str(refused.value)


def test_faults_of_the_source_are_the_sources() -> None:
    copied = deepcopy(SR)
    with pytest.warns(UserWarning, match="Invalid value for VR"):
        copied.PatientAge = "forty"
    check_object(copied, [HEADER])
