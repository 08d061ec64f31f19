"""The SR in other SOP classes: the same content, as far as the class can hold it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

import highdicom as hd
import pytest
from highdicom.sr import Measurement
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from dicom_node.errors import ReportError
from dicom_node.model.documents import DocumentClass
from dicom_node.model.findings import Findings
from dicom_node.model.predecessor import Predecessor
from dicom_node.results.basic_text import number_in_words
from dicom_node.results.check import check_object
from dicom_node.results.report import Report, build_report
from tests.unit.results import samples
from tests.unit.results.test_replaces import referred

BASIC, ENHANCED, COMPREHENSIVE = (
    DocumentClass.BASIC_TEXT,
    DocumentClass.ENHANCED,
    DocumentClass.COMPREHENSIVE,
)


def forms(report: Report) -> dict[DocumentClass, Dataset]:
    main = report.objects[0]
    read = [dcmread(BytesIO(item.encoded)) for item in (main, *main.alternatives)]
    return {kind: next(d for d in read if d.SOPClassUID == kind.uid) for kind in DocumentClass}


@pytest.fixture(params=["knee", "hip", "spine", "declined"])
def made(request: pytest.FixtureRequest) -> dict[DocumentClass, Dataset]:
    header = samples.knee_header()
    headers = [header]
    findings: Findings
    match request.param:
        case "knee":
            findings = samples.findings(
                header, [samples.kl(s) for s in samples.knees(header, (64, 48))]
            )
        case "hip":
            findings = samples.device(header)
        case "spine":
            headers = samples.ct_series()
            findings = samples.vertebrae(headers)
        case _:
            findings = samples.not_evaluated(header)
    return forms(build_report(findings, headers, {}, samples.SPEC))


def items(parent: Dataset) -> Iterator[Dataset]:
    for item in parent.get("ContentSequence", []):
        yield item
        yield from items(item)


def code_of(item: Dataset) -> tuple[str, str]:
    name = item.ConceptNameCodeSequence[0]
    return name.CodeValue, name.CodingSchemeDesignator


def test_the_enhanced_sr_has_the_same_content(made: dict[DocumentClass, Dataset]) -> None:
    first, second = made[COMPREHENSIVE], made[ENHANCED]
    assert second.ContentSequence == first.ContentSequence
    assert second.ContentTemplateSequence == first.ContentTemplateSequence
    buffer = BytesIO()
    second.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    assert isinstance(hd.sr.srread(buffer), hd.sr.EnhancedSR)


def test_the_basic_text_sr_says_every_item_again_in_texts_codes_and_images(
    made: dict[DocumentClass, Dataset],
) -> None:
    old, new = list(items(made[COMPREHENSIVE])), list(items(made[BASIC]))
    assert sorted(map(code_of, old)) == sorted(map(code_of, new))
    assert {item.ValueType for item in new} <= {"TEXT", "CODE", "IMAGE", "UIDREF", "CONTAINER"}
    numbers = [item for item in old if item.ValueType == "NUM"]
    for number in numbers:
        value = float(number.MeasuredValueSequence[0].NumericValue)
        texts = [
            i.TextValue for i in new if i.ValueType == "TEXT" and code_of(i) == code_of(number)
        ]
        assert any(float(text.split()[0]) == pytest.approx(value) for text in texts)
    words = [item.TextValue for item in new if item.ValueType == "TEXT"]
    assert "AI result - research use only - not for diagnosis" in words
    assert made[BASIC].VerificationFlag == "UNVERIFIED"
    assert "ContentTemplateSequence" not in made[BASIC]


def test_numbers_are_written_with_their_units() -> None:
    headers = samples.ct_series()
    basic = forms(build_report(samples.vertebrae(headers), headers, {}, samples.SPEC))[BASIC]
    texts = {item.TextValue for item in items(basic) if item.ValueType == "TEXT"}
    about = "Standard Deviation, Trabecular bone mineral density"
    assert {"123.4 mg/cm3", f"11.3 mg/cm3 ({about})", "141 HU (Mean)"} <= texts


def test_a_probability_in_words_names_its_class() -> None:
    header = samples.knee_header()
    found = samples.findings(header, [samples.kl(samples.one_knee(header))])
    basic = forms(build_report(found, [header], {}, samples.SPEC))[BASIC]
    texts = [item.TextValue for item in items(basic) if item.ValueType == "TEXT"]
    assert any(re.fullmatch(r"[\d.]+ % \(.*grade 2.*\)", text) for text in texts)
    containers = [i for i in (basic, *items(basic)) if i.ValueType == "CONTAINER"]
    assert {item.ContinuityOfContent for item in containers} == {"SEPARATE"}


@pytest.mark.parametrize(
    ("percent", "words"),
    [(0, "0 %"), (0.0003, "less than 0.1 %"), (71.25, "71.2 %"), (99.9996, "more than 99.9 %")],
)
def test_a_probability_is_written_as_a_reader_needs_it(percent: float, words: str) -> None:
    item = Measurement(codes.DCM.Probability, percent, codes.UCUM.Percent)[0]
    assert number_in_words(item) == words


def test_each_form_is_an_instance_of_its_own_and_always_the_same() -> None:
    header = samples.knee_header()
    first, second = (
        build_report(samples.not_evaluated(header), [header], {}, samples.SPEC) for _ in range(2)
    )
    made = forms(first)
    assert len({sr.SOPInstanceUID for sr in made.values()}) == 3
    assert len({sr.SeriesInstanceUID for sr in made.values()}) == 1
    assert sorted(sr.InstanceNumber for sr in made.values()) == [1, 2, 3]
    assert [other.encoded for other in first.objects[0].alternatives] == [
        other.encoded for other in second.objects[0].alternatives
    ]


def test_each_form_refers_to_the_earlier_document_of_its_own_class() -> None:
    header = samples.knee_header(study="1.2.3")
    documents = ((COMPREHENSIVE.uid, "2.25.1"), (ENHANCED.uid, "2.25.2"))
    earlier = Predecessor(documents, "2.25.9", "0.0.9")
    made = forms(
        build_report(samples.not_evaluated(header), [header], {}, samples.SPEC, replaces=earlier)
    )
    assert referred(made[COMPREHENSIVE]) == [("1.2.3", "2.25.9", COMPREHENSIVE.uid, "2.25.1")]
    assert referred(made[ENHANCED]) == [("1.2.3", "2.25.9", ENHANCED.uid, "2.25.2")]
    # the earlier report was not made in this class
    assert referred(made[BASIC]) == [("1.2.3", "2.25.9", COMPREHENSIVE.uid, "2.25.1")]


def test_what_the_class_does_not_allow_is_refused() -> None:
    header = samples.knee_header()
    findings = samples.findings(header, [samples.kl(samples.one_knee(header))])
    made = forms(build_report(findings, [header], {}, samples.SPEC))
    for form in made.values():
        check_object(form, [header])
    number = next(item for item in items(made[COMPREHENSIVE]) if item.ValueType == "NUM")
    made[BASIC].ContentSequence.append(number)
    with pytest.raises(ReportError, match="CONTAINER may not have NUM by CONTAINS"):
        check_object(made[BASIC], [header])
    # a container below a number: Comprehensive SR allows it
    for kind in (COMPREHENSIVE, ENHANCED):
        number = next(item for item in items(made[kind]) if item.ValueType == "NUM")
        below = Dataset()
        below.ValueType, below.RelationshipType = "CONTAINER", "INFERRED FROM"
        below.ConceptNameCodeSequence = number.ConceptNameCodeSequence
        number.ContentSequence = [*number.get("ContentSequence", []), below]
    check_object(made[COMPREHENSIVE], [header])
    with pytest.raises(ReportError, match="may not have CONTAINER by INFERRED FROM"):
        check_object(made[ENHANCED], [header])


def test_a_code_beside_its_properties_keeps_them_in_basic_text() -> None:
    header = samples.knee_header()
    basic = forms(build_report(samples.device(header), [header], {}, samples.SPEC))[BASIC]
    assert "HAS PROPERTIES" not in {item.RelationshipType for item in items(basic)}
    words = {item.TextValue for item in items(basic) if item.ValueType == "TEXT"}
    assert {"Example Implants", "Nail 240"} <= words
