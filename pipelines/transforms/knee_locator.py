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
from pipelines.transforms.knee_search import LEAST, Found, find_joints
from pipelines.transforms.side_markers import Marker, SideMarkers

_BESIDE: Final = 1.2
"""Crops from a joint's centre, right or left, within which a letter belongs to it."""
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
            such a crop is taken whole.
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
            return [self._target(found[0], Target(name, side, source, mirror=mirror), pixels.shape)]
        left, right = sorted(found, key=lambda joint: joint.column)
        letters = (_letters(markers, left, right), _letters(markers, right, left))
        sides, source = agreed_sides(attributes, "bilateral image", letters, reader)
        return [
            self._target(
                joint,
                Target(_NAMES.get(side, f"{at}, side unknown"), side, source, mirror=mirror),
                pixels.shape,
            )
            for joint, side, at, mirror in (
                (left, sides[0], "knee at the image's left", False),
                (right, sides[1], "knee at the image's right", True),
            )
        ]

    def _target(self, joint: Found, target: Target, shape: Sequence[int]) -> Target:
        """Complete a target; `mirror`, as the network was trained on right knees seen in front."""
        whole = self._field == 1 and _fills(joint, shape)
        size = joint.size * self._field
        box = (
            round(joint.column - size / 2),
            round(joint.row - size / 2),
            round(size),
            round(size),
        )
        return replace(target, box=None if whole else box, extras={"score": joint.score})


def _fills(joint: Found, shape: Sequence[int]) -> bool:
    """Tell whether an image is a crop of the joint: it is taken whole, and a letter has no room."""
    return joint.size > 0.85 * max(shape)


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
