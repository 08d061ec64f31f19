"""The hips of a radiograph, and the network's answer as probabilities of the catalogue."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import torch
from monai.transforms import MapTransform

from dicom_node.model import own_codes
from dicom_node.model.findings import Side
from dicom_node.model.side import stated_side
from dicom_node.model.targets import Rejection, Target
from pipelines.transforms.calibration import prediction_set

_AFTER_THE_DEVICES: Final = 2
"""Answers that are no device of the catalogue: none, and other metal."""
_WIDE: Final = 1.2
"""An image wider than this (width over height) shows the pelvis with both hips."""


class HipLocator:
    """One hip, or both of a pelvis film; the side by the image's own word, or by position."""

    def __call__(
        self, image: torch.Tensor, attributes: Mapping[str, Any]
    ) -> Sequence[Target | Rejection]:
        height, width = image.shape[-2:]
        side, source = stated_side(attributes)
        if side is Side.UNKNOWN and width > _WIDE * height:
            half = width // 2
            source = "position in the image of both hips"
            return [
                Target("right hip", Side.RIGHT, source, box=(0, 0, half, height)),
                Target("left hip", Side.LEFT, source, box=(half, 0, width - half, height)),
            ]
        names = {Side.RIGHT: "right hip", Side.LEFT: "left hip"}
        return [Target(names.get(side, "hip, side unknown"), side, source)]


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
