"""Findings as lines of a table: what was asked, the answer, and what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dicom_node.model.wording import percent, unit_sign, with_uncertainty


@dataclass(frozen=True, slots=True)
class FindingLine:
    """One finding in words."""

    subject: str
    question: str
    answer: str
    more: str = ""


def finding_lines(findings: Iterable[tuple[str, Mapping[str, Any]]]) -> list[FindingLine]:
    """Tell the findings of a job that a reader wants in a table; pictures tell the others."""
    lines = []
    for kind, data in findings:
        subject = str(data.get("subject", {}).get("name", ""))
        if kind == "classification":
            lines.append(_classification(subject, data))
        elif kind == "measurement":
            lines.append(_measurement(subject, data))
        elif kind == "not_evaluated":
            lines.append(FindingLine(subject, "not evaluated", str(data["text"])))
    return lines


def _classification(subject: str, data: Mapping[str, Any]) -> FindingLine:
    labels = [str(label["text"]) for label in data["labels"]]
    answer = labels[data["predicted"]]
    more = str(data.get("rule") or "")
    if not more:
        probability = data["probabilities"][data["predicted"]]
        named = "probability" if data.get("calibrated", True) else "score"
        more = f"{named} {percent(probability)}"
        others = [labels[index] for index in data.get("prediction_set") or ()]
        if len(others) > 1 and data.get("coverage"):
            more += f"; {data['coverage']:.0%} set: {', '.join(others)}"
    return FindingLine(subject, str(data["question"]["meaning"]), answer, more)


def _measurement(subject: str, data: Mapping[str, Any]) -> FindingLine:
    unit = unit_sign(str(data["unit"]["value"]))
    value, uncertainty = data["value"], data.get("uncertainty")
    answer = f"{value:.4g}" if uncertainty is None else with_uncertainty(value, uncertainty)
    return FindingLine(
        subject,
        str(data["concept"]["meaning"]),
        f"{answer} {unit}".rstrip(),
        str(data.get("method") or ""),
    )
