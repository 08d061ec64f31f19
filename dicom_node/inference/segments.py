"""A segmentation's classes, each as a subject with its region and its volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_node.errors import PipelineError
from dicom_node.inference.grid import Grid
from dicom_node.inference.saliency import onto_source
from dicom_node.model.codes import MILLILITER, VOLUME
from dicom_node.model.findings import Finding, Measurement, Region, Subject
from dicom_node.model.pipeline import SegmentationOutput, SegmentSpec
from dicom_node.model.targets import Target

_HOW = "number of voxels by the volume of one"


def segments_of(
    output: SegmentationOutput,
    subject: Subject,
    target: Target,
    value: npt.NDArray[Any],
    shape: tuple[int, ...],
    grid: Grid,
) -> list[Finding]:
    """Make a region, and in a volume its volume in mL, of each class.

    A class that is nowhere has no region and, in a volume, 0 mL.

    Args:
        subject: Of the whole image; each class gets one of its own, on the slices that show it.
        value: [1, ...] label map or [classes, ...], on the grid of the source or, of a
            radiograph, of the target's box.
        shape: Of the source: (H, W) or (H, W, D).

    Raises:
        PipelineError: The array does not lie on that grid, or a class has no channel.
    """
    if value.ndim == len(shape):
        value = value[None]
    if value.ndim != len(shape) + 1 or (len(shape) == 3 and value.shape[1:] != shape):
        raise PipelineError(
            f"output {output.key}",
            f"its shape {value.shape} does not fit the source {shape}",
            "let postprocessing bring it back to the source's grid (`Invertd`)",
        )
    found: list[Finding] = []
    for segment in output.segments:
        mask = _mask(output, segment, value)
        if len(shape) == 2:
            found += _flat(segment, subject, target, mask, (shape[0], shape[1]))
        else:
            found += _solid(segment, subject, np.moveaxis(mask, -1, 0), grid)
    return found


def _mask(
    output: SegmentationOutput, segment: SegmentSpec, value: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    if len(value) == 1:
        return np.asarray(np.round(value[0]) == segment.value)
    if segment.value >= len(value):
        raise PipelineError(
            f"output {output.key}",
            f"it has {len(value)} channels, and {segment.name} would be number {segment.value}",
            "correct `value` of the segment in dicom.yaml; the first channel is 0",
        )
    return np.asarray(value[segment.value] > 0.5)


def _flat(
    segment: SegmentSpec,
    subject: Subject,
    target: Target,
    mask: npt.NDArray[np.bool_],
    shape: tuple[int, int],
) -> Iterator[Finding]:
    if mask.shape != shape or target.box is not None or target.mirror:
        mask = onto_source(mask.astype(np.float32), shape, target.box, target.mirror) > 0.5
    yield _region(segment, replace(subject, name=_name(segment, subject)), mask)


def _solid(
    segment: SegmentSpec, subject: Subject, mask: npt.NDArray[np.bool_], grid: Grid
) -> Iterator[Finding]:
    """Yield the findings of one class in a volume, [slices, H, W]."""
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    images = tuple(grid.references[n] for n in shown) or grid.references
    own = replace(subject, name=_name(segment, subject), images=images)
    amount = float(np.count_nonzero(mask)) * grid.voxel_ml
    if len(shown):
        yield _region(segment, own, mask[shown])
    yield Measurement(own, VOLUME, amount, MILLILITER, method=_HOW)


def _region(segment: SegmentSpec, subject: Subject, mask: npt.NDArray[np.bool_]) -> Region:
    return Region(subject, segment.label.code(), mask, segment.category.code())


def _name(segment: SegmentSpec, subject: Subject) -> str:
    """A class of a target that a locator found is told from that of another target."""
    return segment.name if subject.box is None else f"{subject.name}: {segment.name}"
