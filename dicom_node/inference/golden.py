"""The golden input of a pipeline: the findings that it must make of it, on every machine.

`configs/selftest.yaml` names a phantom, which is drawn anew from its seed each time, or an array
that lies beside it, and what the pipeline made of it when it was released. The test covers all
that lies between the reader and the report: locator, preprocessing, network, postprocessing.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import Field, ValidationError

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.sources import Source
from dicom_node.model.conditions import Strict
from dicom_node.model.findings import (
    Classification,
    Finding,
    ImageReference,
    Measurement,
    NotEvaluated,
)
from dicom_node.model.pipeline import InputKind

Deviations = list[str] | None
"""What differs from what is expected; empty: nothing does; None: there is no golden input."""

_PHANTOMS: Final = "pipelines.phantoms."
"""Only these are called: a site's own pipeline brings an array."""


_HEAD: Final = "# The golden input, and what the released pipeline made of it.\n"


class GoldenSpec(Strict):
    """The whole of `configs/selftest.yaml`.

    Attributes:
        phantom: Function that draws it, by its full name; what it returns has `image`, [H, W] of
            12 bits, or `volume`, [H, W, D] in HU.
        arguments: Of the function.
        array: File beside this one in NumPy's own format, in place of a phantom: [H, W] in 0..1
            or [H, W, D] in HU.
        spacing: Of a volume's voxels in mm (row, column, slice); of an image (row, column).
        attributes: Of the image, by keyword.
        weights_sha256: Of the weights that gave the expected answers: of others, such as those
            that a site has trained, nothing is known.
        expected: A text for each subject and question, with the numbers behind it.
        tolerance: By which a probability may differ.
        relative_tolerance: By which a measurement may differ, as a share of it.
    """

    phantom: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    array: str | None = None
    spacing: list[float] = Field(default_factory=list)
    attributes: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: str = ""
    expected: dict[str, list[float]] = Field(default_factory=dict)
    tolerance: float = Field(default=0.02, gt=0)
    relative_tolerance: float = Field(default=0.02, gt=0)


def golden_file(bundle: Bundle) -> Path:
    """Return where a bundle's golden input is described."""
    return bundle.folder / "configs" / "selftest.yaml"


def golden_of(bundle: Bundle) -> GoldenSpec | None:
    """Read a bundle's golden input; None when it has none.

    Raises:
        PipelineError: The file is wrong.
    """
    file = golden_file(bundle)
    if not file.is_file():
        return None
    try:
        return GoldenSpec.model_validate(yaml.safe_load(file.read_text()))
    except (yaml.YAMLError, ValidationError, OSError) as error:
        raise PipelineError(
            f"pipeline {bundle.name}: {file.name}",
            f"it cannot be read: {type(error).__name__}",
            "correct it, or write it anew with `dicom-node pipelines selftest --write`",
        ) from None


def answers(pipeline: LoadedPipeline, spec: GoldenSpec) -> dict[str, list[float]]:
    """Return what a pipeline makes of its golden input, in the form of `expected`.

    Raises:
        PipelineError: The input cannot be made, or the pipeline raised.
    """
    return told(pipeline.evaluate(_source(pipeline.bundle, spec)))


def told(items: Iterable[Finding]) -> dict[str, list[float]]:
    """Return what findings say in numbers, by subject and question."""
    found = (_told(item) for item in items)
    return {one[0]: one[1] for one in found if one is not None}


def deviations(pipeline: LoadedPipeline) -> Deviations:
    """Run a pipeline on its golden input and tell what differs.

    Raises:
        PipelineError: The input cannot be made, or the pipeline raised.
    """
    spec = golden_of(pipeline.bundle)
    if spec is None or spec.weights_sha256 != pipeline.bundle.weights_sha256:
        return None
    found = answers(pipeline, spec)
    differs = [f"{name} is missing" for name in spec.expected if name not in found]
    for name, values in found.items():
        expected = spec.expected.get(name)
        if expected is None:
            differs.append(f"{name} was not expected")
        elif len(expected) != len(values) or not np.allclose(
            values,
            expected,
            atol=spec.tolerance if name.startswith("class ") else 0,
            rtol=spec.relative_tolerance if name.startswith("value ") else 0,
        ):
            differs.append(f"{name} is {_short(values)} instead of {_short(expected)}")
    return differs


def _told(item: Finding) -> tuple[str, list[float]] | None:
    subject = item.subject.name
    if isinstance(item, Classification):
        numbers = [round(float(number), 4) for number in item.probabilities]
        return f"class {item.question.value} of {subject}", numbers
    if isinstance(item, Measurement):
        return f"value {item.concept.value} of {subject}", [float(f"{item.value:.5g}")]
    if isinstance(item, NotEvaluated):
        return f"reason {item.reason.value} of {subject}", []
    return None


def _short(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values) or "nothing"


def _source(bundle: Bundle, spec: GoldenSpec) -> Source:
    values = _values(bundle, spec)
    volume = bundle.spec.input.kind is InputKind.VOLUME
    if values.ndim != (3 if volume else 2):
        raise PipelineError(
            f"pipeline {bundle.name}: selftest.yaml",
            f"its input has {values.ndim} dimensions",
            "name a volume for a pipeline of volumes, an image for one of radiographs",
        )
    spacing = spec.spacing or ([1.0] * values.ndim if volume else [])
    affine = None
    if volume:
        # as a patient who lies on the back: rows go to the back, columns to the left
        affine = np.diag([1.0, 1.0, spacing[2], 1.0])
        affine[:2, :2] = [[0, -spacing[1]], [-spacing[0], 0]]
    count = values.shape[2] if volume else 1
    references = tuple(ImageReference("1.2", f"1.2.{n + 1}", "1.2") for n in range(count))
    plane = (spacing[0], spacing[1]) if len(spacing) >= 2 else None
    return Source(references, spec.attributes, "", values, affine, plane)


def _values(bundle: Bundle, spec: GoldenSpec) -> npt.NDArray[np.float32]:
    what = f"pipeline {bundle.name}: selftest.yaml"
    volume = bundle.spec.input.kind is InputKind.VOLUME
    if spec.array is not None:
        file = bundle.folder / "configs" / spec.array
        try:
            return np.asarray(np.load(file, allow_pickle=False), np.float32)
        except (OSError, ValueError) as error:
            raise PipelineError(
                what, f"{spec.array} cannot be read: {type(error).__name__}", "write it anew"
            ) from None
    if spec.phantom is None or not spec.phantom.startswith(_PHANTOMS):
        raise PipelineError(
            what,
            f"its phantom is none of {_PHANTOMS}*",
            "name one of those, or an array beside the file",
        )
    module, _, name = spec.phantom.rpartition(".")
    try:
        made: Any = getattr(importlib.import_module(module), name)(**spec.arguments)
        drawn = made.volume if volume else made.image
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise PipelineError(
            what, f"its phantom cannot be drawn: {type(error).__name__}", "correct the file"
        ) from None
    values = np.asarray(drawn, np.float32)
    return values if volume else np.clip(values / np.float32(4095), 0, 1)


def written(pipeline: LoadedPipeline, spec: GoldenSpec) -> str:
    """Return `selftest.yaml` with what a pipeline makes of its golden input here and now.

    Raises:
        PipelineError: The input cannot be made, or the pipeline raised.
    """
    content = spec.model_dump(exclude_defaults=True)
    content["weights_sha256"] = pipeline.bundle.weights_sha256
    content["expected"] = answers(pipeline, spec)
    return _HEAD + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
