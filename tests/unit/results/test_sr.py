"""What the SR says, read back by highdicom."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from dicom_node.errors import ReportError
from dicom_node.model.codes import Code
from dicom_node.model.findings import Classification, Findings, Measurement, Side
from dicom_node.model.own_codes import (
    BELONGS_TO,
    COVERAGE,
    KL_2,
    PREDICTION_SET,
    REASON,
    WRONG_VIEW,
)
from dicom_node.results.report import build_report
from tests.unit.results import samples


def sr_of(findings: Findings, headers: list[Dataset]) -> hd.sr.ComprehensiveSR:
    made = build_report(findings, headers, {}, samples.SPEC).objects[0]
    assert made.kind == "SR"
    return hd.sr.srread(BytesIO(made.encoded))


def groups(sr: hd.sr.ComprehensiveSR) -> list[Any]:
    return list(sr.content.get_image_measurement_groups())


def named(group: Any, code: Code) -> list[Dataset]:
    return [
        item
        for item in group[0].ContentSequence
        if (item.name.value, item.name.scheme_designator) == (code.value, code.scheme)
    ]


def probabilities(group: Any) -> dict[str, float]:
    found = {}
    for item in named(group, Code("122157", "DCM", "Probability")):
        which = item.ContentSequence[0].ConceptCodeSequence[0].CodeValue
        found[which] = float(item.MeasuredValueSequence[0].NumericValue) / 100
    return found


def test_a_classification_reads_back_as_it_was_found() -> None:
    header = samples.knee_header()
    right, left = samples.knees(header, (64, 48))
    wanted = [samples.kl(right), samples.kl(left, 3)]
    read = groups(sr_of(samples.findings(header, wanted), [header]))
    assert [g.tracking_identifier for g in read] == ["right knee", "left knee"]
    assert len({g.tracking_uid for g in read}) == 2
    for group, item in zip(read, wanted, strict=True):
        answer = item.labels[item.predicted].code
        assert [
            (e.name.value, e.value.value)
            for e in group.get_qualitative_evaluations()
            if e.name.value == item.question.value
        ] == [(item.question.value, answer.value)]
        assert probabilities(group) == pytest.approx(
            {
                label.code.value: value
                for label, value in zip(item.labels, item.probabilities, strict=True)
            },
            abs=1e-5,
        )
        members = [i.ConceptCodeSequence[0].CodeValue for i in named(group, PREDICTION_SET)]
        assert members == [item.labels[i].code.value for i in item.prediction_set]
        coverage = named(group, COVERAGE)[0].MeasuredValueSequence[0]
        assert float(coverage.NumericValue) == 90
        assert coverage.MeasurementUnitsCodeSequence[0].CodeValue == "%"


def test_side_and_site_are_coded() -> None:
    header = samples.knee_header()
    read = groups(
        sr_of(
            samples.findings(header, [samples.kl(s) for s in samples.knees(header, (64, 48))]),
            [header],
        )
    )
    sites = [group.finding_sites[0] for group in read]
    assert [site.value.value for site in sites] == [samples.KNEE.value] * 2
    assert [site.laterality for site in sites] == [codes.SCT.Right, codes.SCT.Left]


def test_an_unknown_side_is_not_guessed() -> None:
    header = samples.knee_header()
    subject = samples.one_knee(header, Side.UNKNOWN)
    read = groups(sr_of(samples.findings(header, [samples.kl(subject)]), [header]))
    assert read[0].finding_sites[0].laterality is None


def test_the_certainty_of_the_answer_stands_for_itself() -> None:
    header = samples.knee_header()
    read = groups(sr_of(samples.findings(header, [samples.kl(samples.one_knee(header))]), [header]))
    certainty = named(read[0], Code("111012", "DCM", "Certainty of Finding"))
    assert float(certainty[0].MeasuredValueSequence[0].NumericValue) == pytest.approx(71)


def test_a_class_by_threshold_claims_no_probability() -> None:
    headers = samples.ct_series()
    read = groups(sr_of(samples.vertebrae(headers), headers))
    whole = next(group for group in read if group.tracking_identifier == "L1-L4")
    assert probabilities(whole) == {}
    rules = [
        c.value
        for item in named(whole, Code("bone-dens-class", "99DCMNODE", ""))
        for c in item.ContentSequence
        if c.name == codes.DCM.Comment
    ]
    assert rules == ["below 80 mg/cm3 osteoporosis, 80 to 120 low bone mass"]
    assert "bone-dens-class" in {e.name.value for e in whole.get_qualitative_evaluations()}


def test_a_measurement_reads_back_with_unit_uncertainty_and_range() -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    item = next(i for i in findings.items if isinstance(i, Measurement))
    group = groups(sr_of(findings, headers))[0]
    numbers = {(n.name.value, n.name.scheme_designator): n for n in group.get_measurements()}
    number = numbers[(item.concept.value, item.concept.scheme)]
    assert number.unit.value == "mg/cm3"
    assert number.value == pytest.approx(item.value)
    assert [c.value for c in number[0].ContentSequence] == [item.method]
    low = numbers[(codes.SCT.NormalRangeLowerLimit.value, "SCT")]
    spread = numbers[("371884006", "SCT")]  # +/-, range of measurement uncertainty
    assert (low.value, low.unit.value) == (120, "mg/cm3")
    assert (spread.value, spread.unit.value) == (pytest.approx(11.3), "mg/cm3")
    assert spread.derivation == codes.SCT.StandardDeviation
    for about in (low, spread):
        whose = [c.value for c in about[0].ContentSequence if c.name.value == BELONGS_TO.value]
        assert [(w.value, w.scheme_designator) for w in whose] == [
            (item.concept.value, item.concept.scheme)
        ]


@pytest.mark.parametrize(
    ("modality", "reported"),
    [("CT", ("25045-6", "LN")), ("DX", ("363679005", "SCT")), ("XX", ("363679005", "SCT"))],
)
def test_the_procedure_reported_is_of_the_templates_group(
    modality: str, reported: tuple[str, str]
) -> None:
    header = samples.knee_header(Modality=modality)
    sr = sr_of(samples.not_evaluated(header), [header])
    said = [i.value for i in sr.content[0].ContentSequence if i.name == codes.DCM.ProcedureReported]
    assert [(code.value, code.scheme_designator) for code in said] == [reported]
    performed = sr.PerformedProcedureCodeSequence[0]
    assert performed.CodeValue == samples.KNEE_RADIOGRAPH.value


def test_not_evaluated_is_a_coded_result_with_its_sentence() -> None:
    header = samples.knee_header()
    group = groups(sr_of(samples.not_evaluated(header), [header]))[0]
    assert group.finding_type == codes.SCT.NotEvaluated
    reason = named(group, REASON)[0].ConceptCodeSequence[0]
    assert (reason.CodeValue, reason.CodingSchemeDesignator) == (WRONG_VIEW.value, "99DCMNODE")
    comment = named(group, Code("121106", "DCM", "Comment"))[0]
    assert comment.TextValue == "the image is not an AP view of the knee"


def test_a_label_brings_its_coded_details_and_its_own_words() -> None:
    header = samples.knee_header()
    group = groups(sr_of(samples.device(header), [header]))[0]
    answer = named(group, Code("fixation-device", "99DCMNODE", ""))[0]
    texts = {c.name.meaning: c.value for c in answer.ContentSequence}
    assert texts["Manufacturer of implant"] == "Example Implants"
    assert texts["Model of implant"] == "Nail 240"
    assert texts["Equivalent Meaning of Value"] == "proximal femoral nail"


def test_the_statement_comes_first_and_then_what_it_may_not_be_used_for() -> None:
    header = samples.knee_header()
    sr = sr_of(samples.not_evaluated(header), [header])
    texts = [i.value for i in sr.content[0].ContentSequence if i.ValueType == "TEXT"]
    texts = texts[-3:]
    assert texts[0] == "Not evaluated: not an AP view of the knee."
    assert texts[1] == "AI result - research use only - not for diagnosis"
    assert texts[2].startswith("Demonstration weights")


def test_weights_that_are_no_demonstration_do_not_say_so() -> None:
    header = samples.knee_header()
    encoded = build_report(samples.device(header), [header], {}, samples.SPEC).objects[0].encoded
    assert b"Demonstration" not in encoded
    assert b"research use only" in encoded


def test_the_algorithm_has_one_name_everywhere() -> None:
    header = samples.knee_header()
    sr = sr_of(samples.not_evaluated(header), [header])
    equipment = sr.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    root = {
        i.name.value: i.value for i in sr.content[0].ContentSequence if i.ValueType != "CONTAINER"
    }
    group = {
        i.name.value: i.value for i in groups(sr)[0][0].ContentSequence if i.ValueType == "TEXT"
    }
    algorithm = samples.ALGORITHM
    assert equipment.Manufacturer == root["121014"] == group["122405"] == algorithm.manufacturer
    assert equipment.ManufacturerModelName == root["121015"] == group["111001"] == algorithm.name
    assert equipment.SoftwareVersions == group["111003"] == algorithm.version
    assert equipment.DeviceUID == root["121012"] == algorithm.device_uid
    assert algorithm.weights_sha256 in group["111002"]


def test_local_schemes_are_declared_ours_by_name() -> None:
    header = samples.knee_header()
    sr = sr_of(samples.device(header), [header])
    items = {i.CodingSchemeDesignator: i for i in sr.CodingSchemeIdentificationSequence}
    assert set(items) == {"99DCMNODE", "99SITE"}
    assert items["99DCMNODE"].CodingSchemeResponsibleOrganization == "dicom-node"


def test_images_are_referred_to_by_instance_and_frame() -> None:
    header = samples.knee_header(NumberOfFrames=4)
    subject = replace(samples.one_knee(header), images=(samples.reference(header, 3),))
    sr = sr_of(samples.findings(header, [samples.kl(subject)]), [header])
    source = groups(sr)[0].source_images[0]
    assert source.referenced_sop_instance_uid == header.SOPInstanceUID
    assert source.referenced_frame_numbers == [3]
    assert [e[2] for e in sr.get_evidence()] == [header.SOPInstanceUID]


def test_a_subject_with_two_questions_has_a_group_for_each() -> None:
    header = samples.knee_header()
    subject = samples.one_knee(header)
    other = Classification(
        subject,
        Code("q2", "99SITE", "Second question"),
        samples.KL_LABELS[:2],
        (0.4, 0.6),
        1,
    )
    read = groups(sr_of(samples.findings(header, [samples.kl(subject), other]), [header]))
    assert len(read) == 2
    assert read[0].tracking_uid == read[1].tracking_uid
    assert probabilities(read[1]) == pytest.approx({"kl-0": 0.4, "kl-1": 0.6})


def test_content_date_is_when_the_analysis_began() -> None:
    header = samples.knee_header(TimezoneOffsetFromUTC="+0100")
    made = build_report(samples.not_evaluated(header), [header], {}, samples.SPEC)
    for item in made.objects:
        read = dcmread(BytesIO(item.encoded))
        assert (read.ContentDate, read.ContentTime) == ("20260102", "040405")
        assert read.TimezoneOffsetFromUTC == "+0100"


def test_a_code_meaning_that_is_too_long_fails_with_the_code_named() -> None:
    header = samples.knee_header()
    item = replace(samples.kl(samples.one_knee(header)), question=Code("q", "99SITE", "m" * 65))
    with pytest.raises(ReportError, match="64 characters"):
        build_report(samples.findings(header, [item]), [header], {}, samples.SPEC)


def test_the_statement_keeps_to_the_sources_character_set() -> None:
    header = samples.knee_header()
    findings = samples.findings(
        header, [samples.kl(samples.one_knee(header))], statement="BMD 120 ± 8, ≥ 2"
    )
    sr = sr_of(findings, [header])
    texts = [i.value for i in sr.content[0].ContentSequence if i.name == codes.DCM.Finding]
    assert texts == ["BMD 120 +/- 8, >= 2"]


def test_grade_codes_stand_in_the_answer() -> None:
    header = samples.knee_header()
    group = groups(
        sr_of(samples.findings(header, [samples.kl(samples.one_knee(header))]), [header])
    )[0]
    values = {e.value.value for e in group.get_qualitative_evaluations()}
    assert KL_2.value in values
