"""A bundle's outputs, by `dicom.yaml`, as Findings; what makes no sense is an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_node.errors import PipelineError
from dicom_node.inference.boxes import boxes_of
from dicom_node.inference.grid import Grid
from dicom_node.inference.saliency import onto_source
from dicom_node.inference.segments import segments_of
from dicom_node.model.findings import (
    Classification,
    Finding,
    ImageReference,
    Label,
    Measurement,
    Region,
    Side,
    Subject,
)
from dicom_node.model.pipeline import (
    ClassificationOutput,
    DetectionOutput,
    LabelSpec,
    MeasurementOutput,
    PipelineSpec,
    RegionOutput,
    SegmentationOutput,
    SummaryOutput,
)
from dicom_node.model.targets import Target

_PROBABILITY_TOLERANCE: Final = 1e-3
_FIX: Final = "correct the bundle's postprocessing, or dicom.yaml"


def findings_of(
    spec: PipelineSpec,
    subject: Subject,
    target: Target,
    data: Mapping[str, Any],
    shape: tuple[int, ...],
    grid: Grid,
) -> list[Finding]:
    """Make the findings of one target: of its subject, of its segments, of its boxes.

    Args:
        data: What postprocessing left; must hold the keys that `outputs` name.
        shape: Of the source: (H, W) or (H, W, D).

    Raises:
        PipelineError: A key is missing, or its value makes no sense.
    """
    found: list[Finding] = []
    for output in spec.outputs:
        if isinstance(output, SegmentationOutput):
            value = _array(data, output.key)
            found += segments_of(output, subject, target, value, shape, grid)
        elif isinstance(output, DetectionOutput):
            keys = (output.key, output.scores_key, output.labels_key)
            values = {key: _array(data, key) for key in keys}
            found += boxes_of(output, subject, target, values, shape, grid)
        else:
            found.append(_finding(output, subject, target, data, shape))
    return found


def summary_of(spec: PipelineSpec, findings: Sequence[Finding]) -> list[Finding]:
    """Make the summary over all subjects, and its class by the stated thresholds."""
    summary = spec.summary
    if summary is None:
        return []
    concepts = {
        o.concept.code()
        for o in spec.outputs
        if isinstance(o, MeasurementOutput) and o.key == summary.over
    }
    over = [f for f in findings if isinstance(f, Measurement) and f.concept in concepts]
    if len(over) < summary.at_least or not over:
        return []
    images: dict[ImageReference, None] = {}
    for item in over:
        images.update(dict.fromkeys(item.subject.images))
    subject = Subject(summary.name, spec.anatomy.code(), Side.NONE, tuple(images))
    mean = float(np.mean([item.value for item in over]))
    known = [item.uncertainty for item in over if item.uncertainty is not None]
    # errors of one patient's levels go together: their mean is no surer than they are
    spread = math.sqrt(sum(u * u for u in known) / len(over)) if len(known) == len(over) else None
    names = ", ".join(item.subject.name for item in over)
    measured = Measurement(
        subject,
        summary.concept.code(),
        mean,
        summary.unit.code(),
        uncertainty=spread,
        derivation=summary.derivation.code(),
        method=f"mean over {names}",
    )
    return [measured, *_by_threshold(summary, subject, mean)]


def _by_threshold(summary: SummaryOutput, subject: Subject, value: float) -> list[Finding]:
    """Make the class that follows from a number; it has the probability 1 by definition."""
    limits = summary.thresholds
    if limits is None:
        return []
    labels = [label for _, label in limits.below] + [limits.last]
    chosen = next((n for n, (limit, _) in enumerate(limits.below) if value < limit), -1)
    chosen %= len(labels)
    return [
        Classification(
            subject,
            limits.question.code(),
            tuple(map(_label, labels)),
            tuple(float(n == chosen) for n in range(len(labels))),
            chosen,
            rule=limits.source,
        )
    ]


def _finding(
    output: ClassificationOutput | MeasurementOutput | RegionOutput,
    subject: Subject,
    target: Target,
    data: Mapping[str, Any],
    shape: tuple[int, ...],
) -> Finding:
    if isinstance(output, ClassificationOutput):
        return _classification(output, subject, data)
    if isinstance(output, MeasurementOutput):
        return Measurement(
            subject,
            output.concept.code(),
            _plausible(output, _number(data, output.key)),
            output.unit.code(),
            uncertainty=_spread(data, output.uncertainty_key) if output.uncertainty_key else None,
            normal_range=output.normal_range,
            derivation=output.derivation.code() if output.derivation else None,
            method=output.method,
        )
    mask = _mask(output.key, _array(data, output.key), subject, target, shape)
    return Region(subject, output.label.code(), mask)


def _classification(
    output: ClassificationOutput, subject: Subject, data: Mapping[str, Any]
) -> Classification:
    probabilities = _activated(output, _array(data, output.key))
    if (
        len(probabilities) != len(output.labels)
        or not np.isfinite(probabilities).all()
        or abs(probabilities.sum() - 1) > _PROBABILITY_TOLERANCE
        or probabilities.min() < 0
    ):
        raise PipelineError(
            f"output {output.key}",
            f"it is not one probability for each of {len(output.labels)} labels",
            _FIX,
        )
    members: tuple[int, ...] = ()
    if output.set_key:
        members = tuple(int(n) for n in _array(data, output.set_key).reshape(-1))
        if len(set(members)) != len(members) or not set(members) <= set(range(len(probabilities))):
            raise PipelineError(
                f"output {output.set_key}", "it does not hold indices of labels", _FIX
            )
    return Classification(
        subject,
        output.question.code(),
        tuple(map(_label, output.labels)),
        tuple(float(p) for p in probabilities / probabilities.sum()),
        int(probabilities.argmax()),
        tuple(sorted(members, key=lambda n: (-probabilities[n], n))),
        output.coverage if output.set_key else None,
        calibrated=output.calibrated,
    )


def _activated(output: ClassificationOutput, value: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Make probabilities of a network's output, where postprocessing has not."""
    values = np.asarray(value, np.float64).reshape(-1)
    if output.activation is None or not np.isfinite(values).all():
        return values
    values = values / output.temperature
    if output.activation == "softmax":
        shares = np.exp(values - values.max())
        return np.asarray(shares / shares.sum())
    chances = 1 / (1 + np.exp(-np.clip(values, -500, 500)))
    if len(chances) == 1 and len(output.labels) == 2:
        return np.array([1 - chances[0], chances[0]])
    # one chance for each label, of which one holds
    return np.asarray(chances / chances.sum())


def _mask(
    key: str, value: npt.NDArray[Any], subject: Subject, target: Target, shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Bring a mask onto the source's grid: [H, W], or [slices, H, W] of the subject's slices.

    Of a radiograph, a mask of another size than the source's is taken as one of the crop.
    """
    if len(shape) == 2:
        while value.ndim > 2 and value.shape[0] == 1:
            value = value[0]
        if value.shape == shape:
            return value.astype(bool)
        if value.ndim == 2:
            crop = value.astype(np.float32)
            return onto_source(crop, (shape[0], shape[1]), target.box, target.mirror) > 0.5
    elif value.shape == (len(subject.images), *shape[:2]):
        return value.astype(bool)
    raise PipelineError(
        f"output {key}", f"a mask of shape {value.shape} does not fit the source {shape}", _FIX
    )


def _label(spec: LabelSpec) -> Label:
    return Label(
        spec.code.code(), spec.text, tuple((code.code(), text) for code, text in spec.detail)
    )


def _plausible(output: MeasurementOutput, value: float) -> float:
    low, high = output.plausible_range or (None, None)
    if (low is not None and value < low) or (high is not None and value > high):
        raise PipelineError(
            f"output {output.key}",
            f"{value:.6g} is outside of its plausible range",
            "look at the images; if the value is right, widen `plausible_range` in dicom.yaml",
        )
    return value


def _spread(data: Mapping[str, Any], key: str) -> float:
    value = _number(data, key)
    if value < 0:
        raise PipelineError(f"output {key}", "a standard deviation is negative", _FIX)
    return value


def _number(data: Mapping[str, Any], key: str) -> float:
    array = np.asarray(_array(data, key), np.float64).reshape(-1)
    if len(array) != 1 or not np.isfinite(array[0]):
        raise PipelineError(f"output {key}", "it is not one finite number", _FIX)
    return float(array[0])


def _array(data: Mapping[str, Any], key: str) -> npt.NDArray[Any]:
    if key not in data:
        raise PipelineError(f"output {key}", "postprocessing did not make it", _FIX)
    value = data[key]
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
