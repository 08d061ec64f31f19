"""The SR as text, from the object."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

from pydicom import Dataset, dcmread

from dicom_node.model.findings import Findings
from dicom_node.results.report import build_report
from dicom_node.results.text import report_text
from tests.unit.results import samples


def text_of(findings: Findings, headers: list[Dataset]) -> str:
    encoded = build_report(findings, headers, {}, samples.SPEC).objects[0].encoded
    return report_text(dcmread(BytesIO(encoded)))


def test_statement_and_restrictions_come_first() -> None:
    header = samples.knee_header()
    findings = samples.findings(header, [samples.kl(samples.one_knee(header))])
    lines = text_of(findings, [header]).splitlines()
    assert lines[0] == "AI Knee Kellgren-Lawrence grade (research only)"
    assert lines[2] == findings.statement
    assert lines[3] == "! AI result - research use only - not for diagnosis"
    assert lines[4].startswith("! Demonstration weights")


def test_answers_probabilities_and_codes_are_said() -> None:
    header = samples.knee_header()
    text = text_of(samples.findings(header, [samples.kl(samples.one_knee(header))]), [header])
    assert "right knee (Knee, Right)" in text
    assert "Kellgren-Lawrence grade: Kellgren-Lawrence grade 2 (minimal) [kl-2, 99DCMNODE]" in text
    assert "Probability: 71 %  (Kellgren-Lawrence grade 2 (minimal) [kl-2, 99DCMNODE])" in text
    assert "Coverage of conformal prediction set: 90 %" in text
    assert text.index("grade 2 (minimal)") < text.index("Probability")


def test_measurements_have_unit_range_and_uncertainty() -> None:
    headers = samples.ct_series()
    text = text_of(samples.vertebrae(headers), headers)
    assert "Trabecular bone mineral density: 123.4 mg/cm³" in text
    assert "Normal Range Lower Limit: 120 mg/cm³" in text
    assert "range of measurement uncertainty: 11.3 mg/cm³" in text
    assert "Source images: 24" in text


def test_a_tiny_probability_has_no_digits_that_nobody_can_use() -> None:
    header = samples.knee_header()
    sure = replace(
        samples.kl(samples.one_knee(header)),
        probabilities=(0.0001, 0.0001, 0.9996, 0.0001, 0.0001),
    )
    text = text_of(samples.findings(header, [sure]), [header])
    assert "Probability: more than 99.9 %" in text
    assert "Probability: less than 0.1 %" in text


def test_not_evaluated_says_why() -> None:
    header = samples.knee_header()
    text = text_of(samples.not_evaluated(header), [header])
    assert "Finding: Not Evaluated [373121007, SCT]" in text
    assert "Reason why not evaluated: Wrong view [wrong-view, 99DCMNODE]" in text
    assert "Comment: the image is not an AP view of the knee" in text


def test_no_patient_is_named() -> None:
    header = samples.knee_header(PatientName="Secret^Person", PatientID="ID-77")
    text = text_of(samples.not_evaluated(header), [header])
    assert "Secret" not in text
    assert "ID-77" not in text
