"""Where the knee joint is in a radiograph, one or both, and which side each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from dicom_node.model import own_codes
from dicom_node.model.findings import Side
from dicom_node.model.side import agreed_side, agreed_sides, is_seen_from_behind
from dicom_node.model.targets import Rejection, Target
from pipelines.transforms.exposed_field import REACH, Array, Box, exposed_field
from pipelines.transforms.knee_search import LEAST, Found, find_joints
from pipelines.transforms.side_markers import Marker, SideMarkers

_BESIDE: Final = 1.2
"""Crops from a joint's centre, right or left, within which a letter belongs to it."""
_WHOLE: Final = 0.97
_NAMES: Final = {Side.RIGHT: "right knee", Side.LEFT: "left knee"}


class KneeLocator:
    """Finds knee joints with a small network over a range of sizes.

    The pixel spacing narrows the range where the image states it. Sides come from the header, from
    a letter beside the joint and, on a film of both knees, from the position; where these
    contradict each other, from nowhere.

    Args:
        network: Holds the finder as its module `finder`.
        least_score: Score under which nothing is said to be a knee.
        field: Side of the target's square, relative to the finder's crop. With 1, an image that is
            such a crop is taken whole, and a field that was collimated to the joint to its borders.
        markers: Reads the letters that name a side; None: they are not read.
    """

    def __init__(
        self,
        network: nn.Module,
        least_score: float = LEAST,
        field: float = 1.0,
        markers: SideMarkers | None = None,
    ) -> None:
        self._network = network
        self._least = least_score
        self._field = field
        self._markers = markers

    def __call__(
        self, image: torch.Tensor, attributes: Mapping[str, Any]
    ) -> Sequence[Target | Rejection]:
        pixels = np.asarray(image.cpu())[0]
        finder = self._network.get_submodule("finder")
        found = find_joints(pixels, finder, spacing=_spacing(attributes), least=self._least)
        if not found:
            return [Rejection(own_codes.NOTHING_FOUND, "no knee joint was found in the image")]
        markers: Sequence[Marker] = ()
        reader = self._markers.name if self._markers is not None else ""
        if self._markers is not None and not _fills(found[0], pixels.shape):
            markers = self._markers(pixels)
        if len(found) == 1:
            side, source = agreed_side(attributes, _letters(markers, found[0]), reader)
            known = side is not Side.UNKNOWN
            mirror = known and (side is Side.LEFT) != is_seen_from_behind(attributes)
            name = _NAMES.get(side, "knee, side unknown")
            target = Target(name, side, source, mirror=mirror)
            return [self._target(found[0], target, *self._boxes(found, pixels))]
        left, right = sorted(found, key=lambda joint: joint.column)
        letters = (_letters(markers, left, right), _letters(markers, right, left))
        sides, source = agreed_sides(attributes, "bilateral image", letters, reader)
        boxes = self._boxes((left, right), pixels)
        return [
            self._target(
                joint,
                Target(_NAMES.get(side, f"{at}, side unknown"), side, source, mirror=mirror),
                box,
            )
            for joint, side, at, mirror, box in (
                (left, sides[0], "knee at the image's left", False, boxes[0]),
                (right, sides[1], "knee at the image's right", True, boxes[1]),
            )
        ]

    def _target(self, joint: Found, target: Target, box: Box | None) -> Target:
        """Complete a target; `mirror`, as the network was trained on right knees seen in front."""
        return replace(target, box=box, extras={"score": joint.score})

    def _boxes(self, joints: Sequence[Found], pixels: Array) -> list[Box | None]:
        """Return each joint's square, or the field around it; None: it is the whole image."""
        if self._field != 1:
            return [self._square(joint) for joint in joints]
        fields = _fields(joints, pixels)
        if len(joints) == 1 and (
            _is_whole(fields[0], pixels) if fields[0] else _fills(joints[0], pixels.shape)
        ):
            return [None]
        return [field or self._square(joint) for joint, field in zip(joints, fields, strict=True)]

    def _square(self, joint: Found) -> Box:
        size = joint.size * self._field
        left, top = joint.column - size / 2, joint.row - size / 2
        return round(left), round(top), round(size), round(size)


def _fields(joints: Sequence[Found], pixels: Array) -> list[Box | None]:
    """Return the exposed field of one joint, or of two from left to right, where it ends nearby."""
    if len(joints) == 1:
        return [_field_of(joints[0], pixels, 0, pixels.shape[1])]
    left, right = joints
    seam = round((left.column + right.column) / 2)
    for _ in range(2):
        one = _field_of(left, pixels, 0, seam)
        other = _field_of(right, pixels, seam, pixels.shape[1])
        if one is None or other is None or one[0] + one[2] != seam or other[0] != seam:
            break
        # two crops without a gap: they meet halfway between their outer borders
        seam = round((one[0] + other[0] + other[2]) / 2)
    return [one, other]


def _field_of(joint: Found, pixels: Array, first: int, end: int) -> Box | None:
    return exposed_field(pixels, joint.row, joint.column, joint.size, between=(first, end))


def _is_whole(field: Box, pixels: Array) -> bool:
    """Tell whether hardly a line is left out: at the side of some published crops air is black."""
    height, width = pixels.shape
    return bool(field[2] >= _WHOLE * width and field[3] >= _WHOLE * height)


def _fills(joint: Found, shape: Sequence[int]) -> bool:
    """Tell whether an image is a crop of the joint: it is taken whole, and a letter has no room."""
    return max(shape) < REACH * joint.size


def _letters(markers: Sequence[Marker], joint: Found, other: Found | None = None) -> set[str]:
    """Return the letters that belong to a joint: beside it, and nearer to it than to the other.

    Farther off, a letter may belong to a knee that was not found, or not taken.
    """
    return {
        marker.letter
        for marker in markers
        if abs(marker.column - joint.column) < _BESIDE * joint.size
        and (other is None or abs(marker.column - joint.column) < abs(marker.column - other.column))
    }


def _spacing(attributes: Mapping[str, Any]) -> float | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = attributes.get(keyword)
        if isinstance(value, list) and len(value) == 2:
            first = value[0]
            if isinstance(first, int | float) and 0.02 < first < 2:
                return float(first)
    return None
