"""Findings as lines of a table."""

from __future__ import annotations

import pytest

from dicom_node.web.found import finding_lines


@pytest.mark.parametrize(
    ("calibrated", "first", "words"),
    [(True, 0.9994, "probability > 99 %"), (False, 0.704, "score 70 %")],
)
def test_a_class_is_told_with_its_probability_and_never_as_certain(
    calibrated: bool, first: float, words: str
) -> None:
    data = {
        "subject": {"name": "left hip"},
        "question": {"meaning": "Internal fixation device of hip"},
        "labels": [{"text": "sliding hip screw"}, {"text": "none"}],
        "predicted": 0,
        "probabilities": [first, 1 - first],
        "calibrated": calibrated,
    }
    (line,) = finding_lines([("classification", data)])
    assert (line.subject, line.answer, line.more) == ("left hip", "sliding hip screw", words)
