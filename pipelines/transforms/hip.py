"""The hips of a radiograph, and the network's answer as probabilities of the catalogue."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from monai.transforms import MapTransform

from dicom_node.model import own_codes
from dicom_node.model.findings import Side
from dicom_node.model.side import agreed_side, agreed_sides, stated_side, states_both
from dicom_node.model.targets import Rejection, Target
from pipelines.transforms.calibration import prediction_set
from pipelines.transforms.side_markers import SideMarkers

_AFTER_THE_DEVICES: Final = 2
"""Answers that are no device of the catalogue: none, and other metal."""
_WIDE: Final = 1.2
"""An image wider than this (width over height) shows the pelvis with both hips, unless its header
says one side."""
_NOT_NARROW: Final = 0.9
"""Wide enough for both hips where the header says that it shows both. A narrower one shows one hip,
whatever it says: modalities send "B" by default."""
_NAMES: Final = {Side.RIGHT: "right hip", Side.LEFT: "left hip"}


class HipLocator:
    """One hip, or both of a pelvis film; the side by header, marker and position.

    Args:
        markers: Reads the letters that name a side; None: they are not read.
    """

    def __init__(self, markers: SideMarkers | None = None) -> None:
        self._markers = markers

    def __call__(
        self, image: torch.Tensor, attributes: Mapping[str, Any]
    ) -> Sequence[Target | Rejection]:
        height, width = image.shape[-2:]
        pixels = np.asarray(image.cpu())[0]
        markers = self._markers(pixels) if self._markers is not None else []
        reader = self._markers.name if self._markers is not None else ""
        least = _NOT_NARROW if states_both(attributes) else _WIDE
        if stated_side(attributes)[0] is Side.UNKNOWN and width > least * height:
            half = width // 2
            of_each = (
                {marker.letter for marker in markers if marker.column < half},
                {marker.letter for marker in markers if marker.column >= half},
            )
            (left, right), source = agreed_sides(attributes, "image of both hips", of_each, reader)
            at_left = _NAMES.get(left, "hip at the image's left, side unknown")
            at_right = _NAMES.get(right, "hip at the image's right, side unknown")
            return [
                Target(at_left, left, source, box=(0, 0, half, height)),
                Target(at_right, right, source, box=(half, 0, width - half, height)),
            ]
        letters = {marker.letter for marker in markers}
        side, source = agreed_side(attributes, letters, reader)
        return [Target(_NAMES.get(side, "hip, side unknown"), side, source)]


class HipDeviceAnswerd(MapTransform):  # type: ignore[misc]
    """Logits to calibrated probabilities of the catalogue's devices, none, and other metal.

    The network's last class is "no AP view of a hip": an image that is too likely to be one is not
    evaluated. Nor is one that is called a device and lies far from all known images of devices.
    Sets "probabilities" [classes - 1], which sum to 1 without that class, and "prediction_set"; or
    "not_evaluated".

    Args:
        temperature: Divides the logits.
        threshold: Of the prediction set (`calibration.prediction_set`).
        most_not_ap: The gate's limit of the last class's probability.
        farthest: The limit of the distance to the nearest known device.
    """

    def __init__(
        self,
        keys: Hashable = "pred",
        temperature: float = 1.0,
        threshold: float = 1.0,
        most_not_ap: float = 0.5,
        farthest: float = math.inf,
    ) -> None:
        super().__init__(keys)
        self.temperature = temperature
        self.threshold = threshold
        self.most_not_ap = most_not_ap
        self.farthest = farthest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        pred = torch.as_tensor(data[self.keys[0]]).double().reshape(-1)
        logits, distance = pred[:-1] / self.temperature, float(pred[-1])
        if float(logits.softmax(0)[-1]) > self.most_not_ap:
            out["not_evaluated"] = Rejection(
                own_codes.WRONG_VIEW,
                "not an AP view of the hip, or unlike the images that the network knows",
            )
            return out
        probabilities = logits[:-1].softmax(0).cpu().numpy()
        is_device = probabilities.argmax() < len(probabilities) - _AFTER_THE_DEVICES
        if is_device and distance > self.farthest:
            out["not_evaluated"] = Rejection(
                own_codes.OUT_OF_DISTRIBUTION,
                "metal that is unlike the known images of the catalogue's devices: perhaps another "
                "device, or an unusual view",
            )
            return out
        out["probabilities"] = probabilities
        out["prediction_set"] = prediction_set(probabilities, self.threshold)
        return out
