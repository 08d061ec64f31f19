"""A detector's boxes, each as a subject, on the grid of the source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from monai.data.box_utils import convert_box_mode

from dicom_node.errors import PipelineError
from dicom_node.inference.grid import Affine, Grid
from dicom_node.model.codes import CERTAINTY_OF_FINDING, NO_UNITS, PERCENT
from dicom_node.model.findings import Finding, Measurement, Region, Subject
from dicom_node.model.own_codes import NUMBER_FOUND
from dicom_node.model.pipeline import DetectionOutput, SegmentSpec
from dicom_node.model.targets import Target

_FIX: Final = "correct the bundle's postprocessing, or `mode` and `frame` in dicom.yaml"
_SCORE: Final = "score of the detector, not calibrated"

Floats = npt.NDArray[np.float64]


def boxes_of(
    output: DetectionOutput,
    subject: Subject,
    target: Target,
    values: Mapping[str, npt.NDArray[Any]],
    shape: tuple[int, ...],
    grid: Grid,
) -> list[Finding]:
    """Make the number of boxes, and of each box its place and its score.

    Args:
        subject: Of the whole image; each box gets one of its own, on the slices that it touches.
        values: The arrays that `key`, `scores_key` and `labels_key` name.
        shape: Of the source: (H, W) or (H, W, D).

    Raises:
        PipelineError: The arrays do not fit each other, or make no boxes.
    """
    boxes = np.asarray(values[output.key], np.float64)
    if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 2 * len(shape)):
        raise PipelineError(
            f"output {output.key}",
            f"its shape {boxes.shape} is not that of boxes of a {len(shape)}-D image",
            _FIX,
        )
    boxes = boxes.reshape(-1, 2 * len(shape))
    scores = np.asarray(values[output.scores_key], np.float64).reshape(-1)
    labels = np.asarray(values[output.labels_key]).reshape(-1).astype(int)
    if not len(boxes) == len(scores) == len(labels):
        raise PipelineError(
            f"output {output.key}",
            f"{len(boxes)} boxes have {len(scores)} scores and {len(labels)} labels",
            _FIX,
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise PipelineError(f"output {output.key}", "a box or a score is not finite", _FIX)
    kinds = {kind.value: kind for kind in output.findings}
    sure = [n for n in np.argsort(-scores, kind="stable") if scores[n] >= output.threshold]
    found: list[Finding] = []
    count = 0
    for n in sure:
        kind = kinds.get(int(labels[n]))
        if kind is None:
            raise PipelineError(
                f"output {output.labels_key}",
                f"it has the label {int(labels[n])}, which no finding of dicom.yaml has",
                "add it to `findings` of the output",
            )
        box = _on_source(output, boxes[n], target, grid, shape)
        if box is None or count == output.at_most:
            continue
        count += 1
        found += _box(kind, f"{kind.name} {count}", subject, box, float(scores[n]), shape, grid)
    rest = sum(1 for n in sure) - count
    more = f"; {rest} more are beyond the limit of {output.at_most}" if rest > 0 else ""
    how = f"boxes with a score of {output.threshold:g} or more{more}"
    # of a single box in its own group: a document of one region and of groups without one is
    # none for the validator of IHE, which decides on the template of all groups at once
    about = found[0].subject if count == 1 else subject
    return [Measurement(about, NUMBER_FOUND, float(count), NO_UNITS, method=how), *found]


def _on_source(
    output: DetectionOutput, box: Floats, target: Target, grid: Grid, shape: tuple[int, ...]
) -> tuple[Floats, Floats] | None:
    """Return the lower and upper corner, voxel indices of the source; None: outside of it."""
    dims = len(shape)
    standard = convert_box_mode(box[None], src_mode=output.mode, dst_mode="xyzxyz"[:dims] * 2)
    corners = np.asarray(standard, np.float64).reshape(2, dims)
    points = np.array(np.meshgrid(*corners.T, indexing="ij")).reshape(dims, -1)
    points = _source_points(output, points, target, grid, shape)
    low = np.maximum(points.min(axis=1), 0)
    high = np.minimum(points.max(axis=1), shape)
    return (low, high) if (high > low).all() else None


def _source_points(
    output: DetectionOutput, points: Floats, target: Target, grid: Grid, shape: tuple[int, ...]
) -> Floats:
    """Bring points, [dims, n], from the output's frame to the source's voxels, edge to edge.

    MONAI counts a box from the edge of a voxel, and brings it to mm as if from the voxel's centre
    (`monai.apps.detection.transforms.box_ops.apply_affine_to_boxes`): that is undone first.
    """
    source = np.eye(4) if grid.affine is None else grid.affine
    seen = source if grid.seen is None else grid.seen
    if output.frame != "image":
        if output.frame == "lps":
            points = points * np.array([[-1.0], [-1.0], [1.0]])
        points = _mapped(_inverse(seen), points)
    points = _mapped(_inverse(source), _mapped(seen, points - 0.5)) + 0.5
    if grid.affine is not None:
        return points
    left, top, width, _ = target.box or (0, 0, shape[1], shape[0])
    rows, columns = points
    if target.mirror:
        columns = width - columns
    return np.stack([rows + top, columns + left])


def _inverse(affine: Affine) -> Affine:
    return np.asarray(np.linalg.inv(affine), np.float64)


def _mapped(affine: Affine, points: Floats) -> Floats:
    dims = len(points)
    mapped: Floats = affine[:dims, :dims] @ points + affine[:dims, 3:]
    return mapped


def _box(
    kind: SegmentSpec,
    name: str,
    subject: Subject,
    box: tuple[Floats, Floats],
    score: float,
    shape: tuple[int, ...],
    grid: Grid,
) -> list[Finding]:
    low, high = box
    top, left = (float(v) for v in low[:2])
    bottom, right = (float(v) for v in high[:2])
    flat = np.zeros(shape[:2], np.bool_)
    flat[int(top) : math.ceil(bottom), int(left) : math.ceil(right)] = True
    if len(shape) == 3:
        first, last = int(low[2]), math.ceil(high[2])
        images = grid.references[first:last]
        mask = np.repeat(flat[None], last - first, axis=0)
        own = replace(subject, name=name, images=images)
    else:
        images = grid.references[:1]
        mask = flat
        whole = _whole_pixels(left, top, right, bottom)
        own = replace(subject, name=name, images=images, box=whole)
    marked = ((left, top, right - left, bottom - top), images[len(images) // 2])
    return [
        Region(own, kind.label.code(), mask, kind.category.code(), marked),
        Measurement(own, CERTAINTY_OF_FINDING, 100 * score, PERCENT, method=_SCORE),
    ]


def _whole_pixels(
    left: float, top: float, right: float, bottom: float
) -> tuple[int, int, int, int]:
    x, y = int(left), int(top)
    return x, y, math.ceil(right) - x, math.ceil(bottom) - y
