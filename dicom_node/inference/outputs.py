"""A bundle's outputs, by `dicom.yaml`, as Findings and as the sentence of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dicom_node.errors import PipelineError
from dicom_node.model.findings import (
    Classification,
    Finding,
    ImageReference,
    Label,
    Measurement,
    NotEvaluated,
    Region,
    Side,
    Subject,
)
from dicom_node.model.pipeline import (
    ClassificationOutput,
    LabelSpec,
    MeasurementOutput,
    Output,
    PipelineSpec,
    SummaryOutput,
)

_PROBABILITY_TOLERANCE = 1e-3


def findings_of(spec: PipelineSpec, subject: Subject, data: Mapping[str, Any]) -> list[Finding]:
    """Make the findings of one subject.

    Args:
        data: What postprocessing left; must hold the keys that `outputs` name.

    Raises:
        PipelineError: A key is missing, or its value makes no sense.
    """
    return [_finding(output, subject, data) for output in spec.outputs]


def summary_of(
    summary: SummaryOutput, spec: PipelineSpec, findings: Sequence[Finding]
) -> list[Finding]:
    """Make the summary over all subjects, and its class by the stated thresholds."""
    output = next(item for item in spec.outputs if item.key == summary.over)
    if not isinstance(output, MeasurementOutput):
        raise PipelineError(
            "summary", f"`over: {summary.over}` is no measurement", "correct dicom.yaml"
        )
    concept = output.concept.code()
    over = [f for f in findings if isinstance(f, Measurement) and f.concept == concept]
    if len(over) < summary.at_least:
        return []
    images: dict[ImageReference, None] = {}
    for item in over:
        images.update(dict.fromkeys(item.subject.images))
    subject = Subject(summary.name, spec.anatomy.code(), Side.NONE, tuple(images))
    mean = float(np.mean([item.value for item in over]))
    known = [item.uncertainty for item in over if item.uncertainty is not None]
    spread = math.sqrt(sum(u * u for u in known)) / len(over) if len(known) == len(over) else None
    names = ", ".join(item.subject.name for item in over)
    found: list[Finding] = [
        Measurement(
            subject,
            summary.concept.code(),
            mean,
            summary.unit.code(),
            uncertainty=spread,
            derivation=summary.derivation.code(),
            method=f"mean over {names}",
        )
    ]
    limits = summary.thresholds
    if limits is not None:
        labels = [label for _, label in limits.below] + [limits.last]
        chosen = next((n for n, (limit, _) in enumerate(limits.below) if mean < limit), -1)
        chosen %= len(labels)
        found.append(
            Classification(
                subject,
                limits.question.code(),
                tuple(map(_label, labels)),
                tuple(float(n == chosen) for n in range(len(labels))),
                chosen,
            )
        )
    return found


def statement_of(spec: PipelineSpec, findings: Sequence[Finding]) -> str:
    """Write what a radiologist would dictate: one sentence a subject."""
    by_subject: dict[Subject, list[Finding]] = {}
    for item in findings:
        by_subject.setdefault(item.subject, []).append(item)
    return " ".join(_sentence(spec, subject, items) for subject, items in by_subject.items())


def _sentence(spec: PipelineSpec, subject: Subject, findings: Iterable[Finding]) -> str:
    name = subject.name[:1].upper() + subject.name[1:]
    fields: dict[str, str] = {"subject": name}
    keys = {o.concept.code(): o for o in spec.outputs if isinstance(o, MeasurementOutput)}
    values: list[str] = []
    for item in findings:
        if isinstance(item, NotEvaluated):
            return f"{name}: not evaluated: {item.text}."
        if isinstance(item, Classification):
            fields["label"] = item.labels[item.predicted].text
            fields["probability"] = f"{item.probabilities[item.predicted]:.0%}"
            fields["set"] = ", ".join(item.labels[n].text for n in item.prediction_set)
            values.append(fields["label"])
        elif isinstance(item, Measurement) and item.concept in keys:
            output = keys[item.concept]
            fields[output.key] = f"{item.value:.0f}"
            if output.uncertainty_key and item.uncertainty is not None:
                fields[output.uncertainty_key] = f"{item.uncertainty:.0f}"
            values.append(f"{item.value:.0f} {item.unit.meaning}")
    try:
        return spec.statement.format(**fields)
    except (KeyError, IndexError, ValueError):
        # a summary has not every field of a subject
        return f"{name}: {', '.join(values)}."


def _finding(output: Output, subject: Subject, data: Mapping[str, Any]) -> Finding:
    if output.key not in data:
        raise PipelineError(
            f"output {output.key}",
            "postprocessing did not make it",
            "correct dicom.yaml or the bundle's postprocessing",
        )
    value = _array(data[output.key])
    if isinstance(output, ClassificationOutput):
        return _classification(output, subject, value, data)
    if isinstance(output, MeasurementOutput):
        return Measurement(
            subject,
            output.concept.code(),
            _number(output.key, value),
            output.unit.code(),
            uncertainty=_number(output.uncertainty_key, _array(data[output.uncertainty_key]))
            if output.uncertainty_key
            else None,
            normal_range=output.normal_range,
            derivation=output.derivation.code() if output.derivation else None,
            method=output.method,
        )
    return Region(subject, output.label.code(), np.asarray(value, bool))


def _classification(
    output: ClassificationOutput, subject: Subject, value: Any, data: Mapping[str, Any]
) -> Classification:
    probabilities = np.asarray(value, np.float64).reshape(-1)
    if (
        len(probabilities) != len(output.labels)
        or not np.isfinite(probabilities).all()
        or abs(probabilities.sum() - 1) > _PROBABILITY_TOLERANCE
        or probabilities.min() < 0
    ):
        raise PipelineError(
            f"output {output.key}",
            f"it is no probability of {len(output.labels)} labels",
            "correct the bundle's postprocessing or dicom.yaml's labels",
        )
    chosen = (
        tuple(int(n) for n in np.asarray(_array(data[output.set_key])).reshape(-1))
        if output.set_key
        else ()
    )
    return Classification(
        subject,
        output.question.code(),
        tuple(map(_label, output.labels)),
        tuple(float(p) for p in probabilities / probabilities.sum()),
        int(probabilities.argmax()),
        tuple(sorted(chosen, key=lambda n: -probabilities[n])),
        output.coverage if output.set_key else None,
    )


def _label(spec: LabelSpec) -> Label:
    return Label(
        spec.code.code(), spec.text, tuple((code.code(), text) for code, text in spec.detail)
    )


def _number(key: str, value: Any) -> float:
    array = np.asarray(value, np.float64).reshape(-1)
    if len(array) != 1 or not np.isfinite(array[0]):
        raise PipelineError(
            f"output {key}", "it is not one finite number", "correct the bundle's postprocessing"
        )
    return float(array[0])


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
