"""The report's sentences, from the template in `dicom.yaml`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from string import Formatter

from dicom_node.model.codes import CERTAINTY_OF_FINDING, VOLUME, Code
from dicom_node.model.findings import (
    Classification,
    Finding,
    Measurement,
    NotEvaluated,
    Subject,
)
from dicom_node.model.own_codes import NUMBER_FOUND
from dicom_node.model.pipeline import (
    DetectionOutput,
    MeasurementOutput,
    PipelineSpec,
    SegmentationOutput,
)
from dicom_node.model.wording import percent, unit_sign


class _Figure(float):
    """A number that without a format is rounded as one dictates it: 141, 71, 5.4, 0.35."""

    def __format__(self, spec: str) -> str:
        if not spec:
            spec = ".0f" if abs(self) >= 10 else ".1f" if abs(self) >= 1 else ".2g"
        return super().__format__(spec)


def fields_of(spec: PipelineSpec) -> frozenset[str]:
    """Return the fields that the statement may name."""
    known = {"subject", "label", "probability", "set"}
    for output in spec.outputs:
        if isinstance(output, MeasurementOutput):
            known |= {output.key, output.uncertainty_key or output.key}
    return frozenset(known | {field for _, field in _made_fields(spec)})


def _made_fields(spec: PipelineSpec) -> Iterator[tuple[Code, str]]:
    """Yield the fields of numbers that the engine makes, by what they are."""
    for output in spec.outputs:
        if isinstance(output, SegmentationOutput):
            yield VOLUME, "volume"
        elif isinstance(output, DetectionOutput):
            yield CERTAINTY_OF_FINDING, "score"


def unknown_fields(spec: PipelineSpec) -> list[str]:
    """Return what the statement names and the pipeline does not have.

    Raises:
        ValueError: The braces do not match.
    """
    named = {field for _, field, _, _ in Formatter().parse(spec.statement) if field is not None}
    return sorted(named - fields_of(spec))


def statement_of(spec: PipelineSpec, findings: Sequence[Finding]) -> str:
    """Write what a radiologist would dictate: one sentence a subject."""
    by_subject: dict[Subject, list[Finding]] = {}
    for item in findings:
        by_subject.setdefault(item.subject, []).append(item)
    return " ".join(_sentence(spec, subject, items) for subject, items in by_subject.items())


def _sentence(spec: PipelineSpec, subject: Subject, findings: Iterable[Finding]) -> str:
    name = subject.name[:1].upper() + subject.name[1:]
    fields: dict[str, str | float] = {"subject": name}
    outputs = {o.concept.code(): o for o in spec.outputs if isinstance(o, MeasurementOutput)}
    made = dict(_made_fields(spec))
    said: list[str] = []
    count = ""
    for item in findings:
        if isinstance(item, NotEvaluated):
            return f"{name}: not evaluated: {item.text.rstrip('. ')}."
        if isinstance(item, Classification):
            label = item.labels[item.predicted].text
            # of several classifications the first is the one that the template means
            fields.setdefault("label", label)
            fields.setdefault("probability", percent(item.probabilities[item.predicted]))
            members = item.prediction_set or (item.predicted,)
            fields.setdefault("set", ", ".join(item.labels[n].text for n in members))
            said.append(label)
        elif isinstance(item, Measurement):
            if item.concept == NUMBER_FOUND:
                count = f"{item.value:.0f} found"
                continue
            said.append(f"{_Figure(item.value)} {unit_sign(item.unit.value)}".rstrip())
            if item.concept in made:
                fields[made[item.concept]] = _Figure(item.value)
            output = outputs.get(item.concept)
            if output is not None:
                fields[output.key] = _Figure(item.value)
                if output.uncertainty_key and item.uncertainty is not None:
                    fields[output.uncertainty_key] = _Figure(item.uncertainty)
    named = {field for _, field, _, _ in Formatter().parse(spec.statement) if field}
    # a summary over subjects has not every field that a subject has, and may have a class more
    if named <= fields.keys() and ("label" in named or "label" not in fields):
        return spec.statement.format(**fields)
    return f"{name}: {', '.join(said) or count}."
