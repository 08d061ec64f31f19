"""What pydantic cannot see in a `dicom.yaml`: keys that do not fit each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dicom_node.inference.statement import fields_of, unknown_fields
from dicom_node.model.pipeline import (
    ClassificationOutput,
    DetectionOutput,
    InputKind,
    MeasurementOutput,
    PipelineSpec,
    SegmentationOutput,
    SegmentSpec,
)


def contradictions(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong with it)."""
    yield from _outputs(spec)
    yield from _summary(spec)
    yield from _saliency(spec)
    yield from _statement(spec)


def _outputs(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    if not spec.outputs:
        yield "outputs", "a pipeline has at least one output"
    for key, count in Counter(output.key for output in spec.outputs).items():
        if count > 1:
            yield "outputs", f"{count} outputs have the key {key!r}"
    for number, output in enumerate(spec.outputs):
        if isinstance(output, SegmentationOutput | DetectionOutput):
            kinds = output.segments if isinstance(output, SegmentationOutput) else output.findings
            yield from _kinds(f"outputs.{number}", kinds)
        if isinstance(output, DetectionOutput):
            volume = spec.input.kind is InputKind.VOLUME
            if (len(output.mode) == 6) != volume:
                yield f"outputs.{number}.mode", f"{output.mode} is not of {spec.input.kind} images"
            if output.frame != "image" and not volume:
                yield f"outputs.{number}.frame", "only volumes have a frame in mm"
        if not isinstance(output, ClassificationOutput):
            continue
        codes = Counter((label.code.value, label.code.scheme) for label in output.labels)
        if len(output.labels) < 2:
            yield f"outputs.{number}.labels", "a classification has at least two labels"
        if max(codes.values(), default=0) > 1:
            yield f"outputs.{number}.labels", "two labels have the same code"
        if (output.set_key is None) != (output.coverage is None):
            yield f"outputs.{number}.coverage", "set_key and coverage go together"
        elif output.coverage is not None and not 0 < output.coverage < 1:
            yield f"outputs.{number}.coverage", "it must lie between 0 and 1"


def _kinds(where: str, kinds: Sequence[SegmentSpec]) -> Iterator[tuple[str, str]]:
    for told, values in (
        ("value", Counter(str(kind.value) for kind in kinds)),
        ("name", Counter(kind.name for kind in kinds)),
    ):
        for value, count in values.items():
            if count > 1:
                yield where, f"{count} of its classes have the {told} {value!r}"


def _summary(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    if spec.summary is None:
        return
    keys = {o.key for o in spec.outputs if isinstance(o, MeasurementOutput)}
    if spec.summary.over not in keys:
        yield "summary.over", f"{spec.summary.over!r} is no measurement of outputs"
    limits = (
        [limit for limit, _ in spec.summary.thresholds.below] if spec.summary.thresholds else []
    )
    if limits != sorted(set(limits)):
        yield "summary.thresholds.below", "the limits must rise"


def _saliency(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    if spec.saliency is None:
        return
    explained = (ClassificationOutput, MeasurementOutput)
    keys = {o.key for o in spec.outputs if isinstance(o, explained)}
    if spec.saliency.key not in keys:
        yield "saliency.key", f"{spec.saliency.key!r} is no classification or measurement"
    if spec.input.kind is InputKind.VOLUME:
        yield "saliency", "Grad-CAM is made of radiographs only"


def _statement(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    try:
        unknown = unknown_fields(spec)
    except ValueError as error:
        yield "statement", f"its braces are wrong: {error}"
        return
    if unknown:
        known = ", ".join(sorted(fields_of(spec)))
        yield "statement", f"{{{unknown[0]}}} is no field of it; there are {known}"
