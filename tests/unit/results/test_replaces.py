"""A report that replaces an earlier one refers to it, says so, and is another one than without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread

from dicom_node.errors import ReportError
from dicom_node.model.pipeline import ResultObject
from dicom_node.model.predecessor import Predecessor
from dicom_node.results.check import check_object
from dicom_node.results.replaces import replaces_in_words
from dicom_node.results.report import Report, build_report
from tests.unit.results import samples
from tests.unit.results.test_report import picture, uids

COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
EARLIER = Predecessor(((COMPREHENSIVE, "2.25.71"),), "2.25.72", "0.0.9", "w")


def report_of(
    header: Dataset, earlier: Predecessor | None, objects: Sequence[ResultObject] = ()
) -> Report:
    findings = samples.findings(header, [samples.kl(samples.one_knee(header))])
    spec = samples.SPEC.model_copy(update={"objects": list(objects)})
    return build_report(findings, [header], picture(header), spec, replaces=earlier)


def referred(sr: Dataset) -> list[tuple[str, str, str, str]]:
    return [
        (
            study.StudyInstanceUID,
            series.SeriesInstanceUID,
            item.ReferencedSOPClassUID,
            item.ReferencedSOPInstanceUID,
        )
        for study in sr.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def test_the_sr_refers_to_the_document_that_it_replaces() -> None:
    header = samples.knee_header(study="1.2.3")
    sr = dcmread(BytesIO(report_of(header, EARLIER).objects[0].encoded))
    assert referred(sr) == [("1.2.3", "2.25.72", COMPREHENSIVE, "2.25.71")]
    assert referred(report_of(header, None).objects[0].dataset) == []


def test_it_says_so_in_words_before_other_remarks() -> None:
    header = samples.knee_header()
    sr = hd.sr.srread(BytesIO(report_of(header, EARLIER).objects[0].encoded))
    texts = [i.value for i in sr.content[0].ContentSequence if i.ValueType == "TEXT"]
    assert texts[-1] == "Replaces the earlier AI result of version 0.0.9."


def test_the_pdf_and_the_picture_say_so_too() -> None:
    header = samples.knee_header()
    objects = (ResultObject.PDF,)
    before = report_of(header, None, objects)
    after = report_of(header, EARLIER, objects)
    for old, new in zip(before.objects[1:], after.objects[1:], strict=True):
        content = "EncapsulatedDocument" if old.kind == "PDF" else "PixelData"
        assert old.dataset[content].value != new.dataset[content].value


def test_a_report_that_replaces_another_is_another_one_and_always_the_same() -> None:
    header = samples.knee_header()
    plain = report_of(header, None)
    first, second = report_of(header, EARLIER), report_of(header, EARLIER)
    assert [i.encoded for i in first.objects] == [i.encoded for i in second.objects]
    assert not set(uids(plain)) & set(uids(first))
    other = report_of(header, replace(EARLIER, documents=((COMPREHENSIVE, "2.25.9"),)))
    assert not set(uids(other)) & set(uids(first))


@pytest.mark.parametrize(
    ("earlier", "said"),
    [
        ({"version": "0.0.9"}, "Replaces the earlier AI result of version 0.0.9."),
        ({}, "Replaces the earlier AI result, which was made with other weights."),
        (
            {"weights_sha256": "", "more_images": 2, "fewer_images": 1},
            "Replaces the earlier AI result, which was made before 2 of these images came.",
        ),
        (
            {"weights_sha256": samples.ALGORITHM.weights_sha256, "fewer_images": 1},
            "Replaces the earlier AI result, which was made from more images.",
        ),
        (
            {"more_images": 1},
            "Replaces the earlier AI result, which was made with other weights "
            "and before 1 of these images came.",
        ),
        (
            {"version": "0.0.9", "more_images": 1},
            "Replaces the earlier AI result of version 0.0.9, which was made "
            "before 1 of these images came.",
        ),
        ({"weights_sha256": ""}, "Replaces the earlier AI result."),
    ],
)
def test_the_words_say_what_was_different(earlier: dict[str, Any], said: str) -> None:
    facts = replace(EARLIER, **{"version": "0.1.0", "weights_sha256": "00" * 32, **earlier})
    assert replaces_in_words(facts, samples.ALGORITHM) == said


@pytest.mark.parametrize("fault", ["study", "series", "itself"])
def test_a_reference_to_no_earlier_document_of_the_study_is_refused(fault: str) -> None:
    header = samples.knee_header()
    sr = report_of(header, EARLIER).objects[0].dataset
    check_object(sr, [header])
    item = sr.PredecessorDocumentsSequence[0]
    if fault == "study":
        item.StudyInstanceUID = "1.9"
    elif fault == "series":
        item.ReferencedSeriesSequence[0].SeriesInstanceUID = sr.SeriesInstanceUID
    else:
        instance = item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        instance.ReferencedSOPInstanceUID = sr.SOPInstanceUID
    with pytest.raises(ReportError, match=r"an earlier document|replaces itself"):
        check_object(sr, [header])


def test_the_facts_survive_json() -> None:
    facts = replace(EARLIER, more_images=3)
    assert Predecessor.of_plain(json.loads(json.dumps(facts.as_plain()))) == facts
