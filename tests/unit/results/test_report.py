"""Which objects a job gets, and that they are the same when it is done again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node import __version__
from dicom_node.model.findings import Findings
from dicom_node.model.instances import attributes_of
from dicom_node.model.own_output import is_own_output
from dicom_node.results.headers import COPIED
from dicom_node.results.report import Report, build_report
from tests.unit.results import samples

SHAPE = (64, 48)


def picture(*headers: Dataset, shape: tuple[int, int] = SHAPE) -> dict[str, np.ndarray]:
    grey = np.linspace(0, 255, shape[0] * shape[1]).reshape(shape).astype(np.uint8)
    return {str(h.SOPInstanceUID): grey for h in headers}


def knee_report(header: Dataset, findings: Findings | None = None) -> Report:
    made = findings or samples.findings(header, [samples.kl(samples.one_knee(header))])
    return build_report(made, [header], picture(header), samples.SPEC)


def uids(report: Report) -> list[str]:
    return [item.sop_instance_uid for item in report.objects]


def test_made_twice_the_objects_are_the_same_bytes() -> None:
    header = samples.knee_header()
    first, second = knee_report(header), knee_report(header)
    assert [i.encoded for i in first.objects] == [i.encoded for i in second.objects]


@pytest.mark.parametrize(
    "change",
    [{"version": "0.2.0"}, {"weights_sha256": "00" * 32}, {"device_uid": "2.25.7"}],
    ids=["version", "weights", "device"],
)
def test_another_model_makes_other_objects(change: dict[str, str]) -> None:
    header = samples.knee_header()
    findings = samples.findings(header, [samples.kl(samples.one_knee(header))])
    other = replace(findings, algorithm=replace(samples.ALGORITHM, **change))
    assert not set(uids(knee_report(header, findings))) & set(uids(knee_report(header, other)))


def test_the_order_of_the_headers_does_not_matter() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    pictures = picture(*headers, shape=(64, 64))
    first = build_report(findings, headers, pictures, samples.CT_SPEC)
    second = build_report(findings, headers[::-1], pictures, samples.CT_SPEC)
    assert [i.encoded for i in first.objects] == [i.encoded for i in second.objects]


def test_each_analysed_radiograph_has_one_picture_for_all_its_subjects() -> None:
    one, two = samples.knee_header(study="1.2.3"), samples.knee_header(study="1.2.3")
    two.SeriesInstanceUID = one.SeriesInstanceUID
    right, left = samples.knees(one, SHAPE)
    other = replace(samples.one_knee(two), name="right knee, second film")
    items = [samples.kl(right), samples.kl(left), samples.kl(other)]
    report = build_report(
        samples.findings([one, two], items), [one, two], picture(one, two), samples.SPEC
    )
    assert [i.kind for i in report.objects] == ["SR", "SC", "SC"]
    sources = [
        i.dataset.SourceImageSequence[0].ReferencedSOPInstanceUID for i in report.objects[1:]
    ]
    assert sources == [one.SOPInstanceUID, two.SOPInstanceUID]
    assert [i.dataset.InstanceNumber for i in report.objects[1:]] == [1, 2]
    assert len({i.dataset.SeriesInstanceUID for i in report.objects[1:]}) == 1


def test_a_volume_has_one_montage() -> None:
    headers = samples.ct_series()
    report = build_report(
        samples.vertebrae(headers), headers, picture(*headers, shape=(64, 64)), samples.CT_SPEC
    )
    assert [i.kind for i in report.objects] == ["SR", "SC"]
    assert len(report.objects[1].dataset.SourceImageSequence) == len(headers)
    assert "PixelSpacing" not in report.objects[1].dataset


def test_unreadable_pixels_still_get_a_card_of_words() -> None:
    header = samples.knee_header()
    report = build_report(samples.not_evaluated(header), [header], {}, samples.SPEC)
    assert [i.kind for i in report.objects] == ["SR", "SC"]
    assert "No picture" in report.objects[1].dataset.DerivationDescription


def test_series_are_new_in_the_patients_study_and_numbered_by_the_pipeline() -> None:
    header = samples.knee_header()
    sr, sc = (item.dataset for item in knee_report(header).objects)
    assert sr.StudyInstanceUID == sc.StudyInstanceUID == header.StudyInstanceUID
    assert len({sr.SeriesInstanceUID, sc.SeriesInstanceUID, header.SeriesInstanceUID}) == 3
    assert (sr.SeriesNumber, sc.SeriesNumber) == (9100, 9101)
    assert sr.SeriesDescription == sc.SeriesDescription
    assert sr.SeriesDescription == "AI Knee Kellgren-Lawrence grade (research only)"


def test_a_long_title_leaves_room_for_research_only() -> None:
    header = samples.knee_header()
    spec = samples.SPEC.model_copy(update={"title": "t" * 80})
    made = build_report(samples.not_evaluated(header), [header], {}, spec)
    description = made.objects[0].dataset.SeriesDescription
    assert len(description) == 64
    assert description.endswith(" (research only)")


def test_our_objects_are_known_as_ours_and_a_source_is_not() -> None:
    header = samples.knee_header()
    for item in knee_report(header).objects:
        assert is_own_output(attributes_of(item.dataset))
        assert item.dataset.SoftwareVersions == __version__
    assert not is_own_output(attributes_of(header))
    assert not is_own_output({})
    assert is_own_output({"ManufacturerModelName": "DICOM-NODE "})


def test_multi_frame_pictures_are_found_by_frame() -> None:
    header = samples.knee_header(NumberOfFrames=2)
    subject = replace(samples.one_knee(header), images=(samples.reference(header, 2),))
    findings = replace(
        samples.findings(header, [samples.kl(subject)]), images=(samples.reference(header, 2),)
    )
    pictures = {f"{header.SOPInstanceUID}#2": np.zeros(SHAPE, np.uint8)}
    report = build_report(findings, [header], pictures, samples.SPEC)
    source = report.objects[1].dataset.SourceImageSequence[0]
    assert source.ReferencedFrameNumber == 2


def test_an_answer_over_two_films_stands_beside_each() -> None:
    one, two = samples.knee_header(study="1.2.3"), samples.knee_header(study="1.2.3")
    subject = replace(
        samples.one_knee(one), images=(samples.reference(one), samples.reference(two))
    )
    report = build_report(
        samples.findings([one, two], [samples.kl(subject)]),
        [one, two],
        picture(one, two),
        samples.SPEC,
    )
    assert [i.kind for i in report.objects] == ["SR", "SC", "SC"]


def test_a_source_of_a_private_sop_class_gets_its_report() -> None:
    header = samples.knee_header(SOPClassUID="1.2.840.113619.4.2")
    assert [i.kind for i in knee_report(header).objects] == ["SR", "SC"]


READ = (
    *COPIED,
    "NumberOfFrames",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "PixelSpacingCalibrationDescription",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BodyPartExamined",
    "PatientOrientation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)


@pytest.mark.parametrize("value", [b"\xff\xfe\x80", b"x" * 70, b"a\\b\\c "])
@pytest.mark.filterwarnings("ignore")
def test_broken_values_of_the_source_do_not_break_the_report(value: bytes) -> None:
    for keywords in (READ, ("SpecificCharacterSet",), ("PatientName", "PixelSpacing")):
        header = samples.knee_header()
        for keyword in keywords:
            tag = Tag(keyword)
            vr = dictionary_VR(tag)
            header[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        report = knee_report(header)
        assert all(item.encoded for item in report.objects)
