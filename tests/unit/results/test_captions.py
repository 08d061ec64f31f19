"""The words beside the picture."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.model.findings import Side
from dicom_node.results.captions import (
    Bar,
    ColourBar,
    Words,
    headline,
    panel_blocks,
    side_marker,
)
from tests.unit.results import samples


def words(findings_blocks: list[object]) -> list[str]:
    return [block.text for block in findings_blocks if isinstance(block, Words)]


def test_every_picture_says_that_it_is_for_research_only() -> None:
    header = samples.knee_header()
    findings = samples.device(header)
    said = words(panel_blocks(findings, findings.items, {}, []))
    assert "AI result - research use only - not for diagnosis" in said
    assert not any(text.startswith("Demonstration") for text in said)
    assert any("weights 3f3f3f3f" in text and "0.1.0" in text for text in said)


def test_demonstration_weights_are_marked() -> None:
    header = samples.knee_header()
    findings = samples.not_evaluated(header)
    said = words(panel_blocks(findings, findings.items, {}, []))
    assert any(text.startswith("Demonstration weights") for text in said)
    assert "NOT EVALUATED" in said
    assert "the image is not an AP view of the knee" in said


def test_each_label_has_its_bar_and_the_map_its_key() -> None:
    header = samples.knee_header()
    subject = samples.one_knee(header)
    findings = samples.findings(header, [samples.kl(subject), samples.grad_cam(subject, (64, 48))])
    blocks = panel_blocks(findings, findings.items, {}, [])
    bars = [block for block in blocks if isinstance(block, Bar)]
    assert [bar.label for bar in bars] == ["KL 0", "KL 1", "KL 2", "KL 3", "KL 4"]
    assert [bar.strong for bar in bars] == [False, False, True, False, False]
    assert any(isinstance(block, ColourBar) for block in blocks)


def test_a_class_by_threshold_has_no_bars() -> None:
    findings = samples.vertebrae(samples.ct_series())
    blocks = panel_blocks(findings, findings.items, {}, [])
    assert not any(isinstance(block, Bar) for block in blocks)
    assert "low bone mass range" in words(blocks)
    assert "119 ± 8 mg/cm³" in words(blocks)


@pytest.mark.parametrize(
    ("side", "mark"),
    [(Side.RIGHT, "R"), (Side.LEFT, "L"), (Side.UNKNOWN, "side ?"), (Side.NONE, "")],
)
def test_the_side_marker_never_guesses(side: Side, mark: str) -> None:
    subject = replace(samples.one_knee(samples.knee_header()), side=side)
    assert side_marker(subject) == mark


def test_the_picture_says_why_a_side_is_unknown() -> None:
    header = samples.knee_header()
    why = "Laterality (0020,0060) says L, but there is the marker R in the image"
    subject = replace(
        samples.one_knee(header), name="knee, side unknown", side=Side.UNKNOWN, side_source=why
    )
    told = samples.findings(header, [samples.kl(subject)])
    assert f"Side unknown: {why}" in words(panel_blocks(told, told.items, {}, []))
    silent = samples.findings(header, [samples.kl(replace(subject, side_source=""))])
    assert not any(
        text.startswith("Side") for text in words(panel_blocks(silent, silent.items, {}, []))
    )


def test_the_headline_is_the_answer_with_its_probability() -> None:
    header = samples.knee_header()
    assert headline([samples.kl(samples.one_knee(header))]) == "KL 2 (71 %)"
    assert headline(samples.not_evaluated(header).items) == "not evaluated"
