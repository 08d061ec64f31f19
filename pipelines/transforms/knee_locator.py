"""Where the knee joint is in a radiograph, one or both, and which side each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from dicom_node.model import own_codes
from dicom_node.model.findings import Side
from dicom_node.model.side import stated_side
from dicom_node.model.targets import Rejection, Target
from pipelines.transforms.knee_search import LEAST, Found, find_joints


class KneeLocator:
    """Finds knee joints with a small network over a range of sizes.

    The pixel spacing narrows the range where the image states it.

    Args:
        network: Holds the finder as its module `finder`.
        least_score: Score under which nothing is said to be a knee.
        field: Side of the target's square, relative to the finder's crop. With 1, an image that is
            such a crop is taken whole.
    """

    def __init__(self, network: nn.Module, least_score: float = LEAST, field: float = 1.0) -> None:
        self._network = network
        self._least = least_score
        self._field = field

    def __call__(
        self, image: torch.Tensor, attributes: Mapping[str, Any]
    ) -> Sequence[Target | Rejection]:
        pixels = np.asarray(image.cpu())[0]
        finder = self._network.get_submodule("finder")
        found = find_joints(pixels, finder, spacing=_spacing(attributes), least=self._least)
        if not found:
            return [Rejection(own_codes.NOTHING_FOUND, "no knee joint was found in the image")]
        if len(found) == 1:
            side, source = stated_side(attributes)
            return [self._target(found[0], side, source, pixels.shape)]
        # a bilateral film is read as if the patient stood before the reader
        left_first = sorted(found, key=lambda joint: joint.column)
        source = "position in the bilateral image"
        return [
            self._target(joint, side, source, pixels.shape)
            for joint, side in zip(left_first, (Side.RIGHT, Side.LEFT), strict=True)
        ]

    def _target(self, joint: Found, side: Side, source: str, shape: Sequence[int]) -> Target:
        names = {Side.RIGHT: "right knee", Side.LEFT: "left knee"}
        whole = self._field == 1 and joint.size > 0.85 * max(shape)
        size = joint.size * self._field
        box = (
            round(joint.column - size / 2),
            round(joint.row - size / 2),
            round(size),
            round(size),
        )
        return Target(
            name=names.get(side, "knee, side unknown"),
            side=side,
            side_source=source,
            box=None if whole else box,
            # the network was trained on right knees, and on left ones mirrored
            mirror=side is Side.LEFT,
            extras={"score": joint.score},
        )


def _spacing(attributes: Mapping[str, Any]) -> float | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = attributes.get(keyword)
        if isinstance(value, list) and len(value) == 2:
            first = value[0]
            if isinstance(first, int | float) and 0.02 < first < 2:
                return float(first)
    return None
