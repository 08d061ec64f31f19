"""Patient and study are the source's own, to the byte."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import ReportError
from dicom_node.model.findings import ImageReference
from dicom_node.results.headers import (
    COPIED,
    TYPE_2,
    Sources,
    copy_patient_and_study,
    local_time,
    offset_of,
)
from tests.unit.results import samples

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """The header as it comes back from a file, its elements still raw."""
    bare = Dataset()
    bare.update({e.tag: e for e in dataset if e.keyword != "PixelData"})
    bare.file_meta = dataset.file_meta
    bare.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(
        buffer,
        bare,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    return dcmread(BytesIO(buffer.getvalue()), force=True)


def raw_bytes(dataset: Dataset, keyword: str) -> bytes:
    element = dataset.get_item(keyword)
    assert element is not None
    return bytes(element.value)


def in_a_report(source: Dataset) -> Dataset:
    target = samples.knee_header()
    copy_patient_and_study(source, target)
    return written(target)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_name_keeps_its_bytes_in_every_transfer_syntax(syntax: str) -> None:
    header = samples.knee_header(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
    )
    source = written(header, syntax)
    made = in_a_report(source)
    assert raw_bytes(made, "PatientName") == raw_bytes(source, "PatientName")
    assert str(made.PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_bytes_that_the_stated_character_set_cannot_mean_are_kept() -> None:
    header = samples.knee_header(PatientName="M?ller^J?rg")
    buffer = BytesIO()
    dcmwrite(buffer, header, enforce_file_format=True)
    broken = buffer.getvalue().replace(b"M?ller^J?rg", "Müller^Jörg".encode("latin-1"))
    source = dcmread(BytesIO(broken), stop_before_pixels=True)
    made = in_a_report(source)
    assert raw_bytes(made, "PatientName").strip() == "Müller^Jörg".encode("latin-1")


def test_broken_dates_and_ages_are_kept_as_they_are() -> None:
    header = samples.knee_header(PatientName="A^B")
    buffer = BytesIO()
    header.PatientBirthDate = "19700101"
    header.StudyTime = "112233"
    dcmwrite(buffer, header, enforce_file_format=True)
    broken = buffer.getvalue().replace(b"19700101", b"unknown?").replace(b"112233", b"25:99:")
    made = in_a_report(dcmread(BytesIO(broken), stop_before_pixels=True))
    assert raw_bytes(made, "PatientBirthDate") == b"unknown?"
    assert raw_bytes(made, "StudyTime") == b"25:99:"


def test_elements_of_type_2_are_there_and_empty_when_the_source_lacks_them() -> None:
    source = samples.knee_header()
    for keyword in TYPE_2:
        if keyword in source:
            del source[keyword]
    made = in_a_report(source)
    for keyword in TYPE_2:
        assert keyword in made
        assert not made[keyword].value


def test_what_the_target_had_and_the_source_lacks_is_removed() -> None:
    source, target = samples.knee_header(), samples.knee_header(PatientComments="someone else's")
    copy_patient_and_study(source, target)
    assert "PatientComments" not in target


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_sequence_of_the_patient_module_is_copied(syntax: str) -> None:
    other = Dataset()
    other.PatientID = "OTHER-1"
    other.TypeOfPatientID = "TEXT"
    source = written(samples.knee_header(OtherPatientIDsSequence=[other]), syntax)
    made = in_a_report(source)
    assert made.OtherPatientIDsSequence[0].PatientID == "OTHER-1"


def test_a_header_that_is_not_given_is_refused() -> None:
    header = samples.knee_header()
    findings = samples.not_evaluated(header)
    with pytest.raises(ReportError, match="header was not given"):
        Sources(findings, [samples.knee_header()])


def test_findings_without_an_image_are_refused() -> None:
    findings = samples.findings([], [])
    with pytest.raises(ReportError, match="no analysed image"):
        Sources(findings, [])


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
def test_a_source_without_usable_uids_is_refused(keyword: str) -> None:
    header = samples.knee_header()
    findings = samples.not_evaluated(header)
    header[keyword].value = ""
    with pytest.raises(ReportError, match=keyword):
        Sources(findings, [header])


def test_each_instance_stands_once_in_the_evidence() -> None:
    header = samples.knee_header(NumberOfFrames=3)
    images = tuple(samples.reference(header, frame) for frame in (1, 2, 3))
    findings = samples.findings(header, [])
    object.__setattr__(findings, "images", images)
    assert [e.SOPInstanceUID for e in Sources(findings, [header]).evidence()] == [
        header.SOPInstanceUID
    ]
    assert {image.key for image in images} == {
        f"{header.SOPInstanceUID}#{frame}" for frame in (1, 2, 3)
    }
    assert ImageReference("1", "2", "3").key == "2"


def test_dates_are_in_the_zone_that_the_source_states() -> None:
    header = samples.knee_header(TimezoneOffsetFromUTC="-0400")
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert local_time(started, header, UTC).strftime("%Y%m%d %H%M%S") == "20260101 230405"


def test_a_source_without_a_zone_gets_the_nodes_local_time() -> None:
    zone = timezone(timedelta(hours=9))
    started = datetime(2026, 1, 2, 20, 0, tzinfo=UTC)
    assert local_time(started, samples.knee_header(), zone).strftime("%Y%m%d %H%M") == (
        "20260103 0500"
    )


@given(st.text(max_size=8))
def test_any_text_as_timezone_offset_is_a_zone_or_none(text: str) -> None:
    header = Dataset()
    header.add_new("TimezoneOffsetFromUTC", "LO", text.replace("\\", ""))
    zone = offset_of(header)
    assert zone is None or abs(zone.utcoffset(None) or timedelta()) <= timedelta(hours=14)


@pytest.mark.parametrize("keyword", COPIED)
@pytest.mark.parametrize("value", [b"\xff\xfe\x80", b"x" * 70, b"a\\b\\c "])
@pytest.mark.filterwarnings("ignore")
def test_a_broken_element_is_kept_as_it_is_or_left_out(keyword: str, value: bytes) -> None:
    source = samples.knee_header()
    tag = Tag(keyword)
    vr = dictionary_VR(tag)
    source[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    target = samples.knee_header()
    copy_patient_and_study(source, target)
    buffer = BytesIO()
    dcmwrite(buffer, target, enforce_file_format=True)
    assert value in buffer.getvalue() or vr == "SQ"
