"""Parts of the tiny bundles of these tests, named by their inference.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dicom_node.model.codes import Code
from dicom_node.model.findings import Side
from dicom_node.model.targets import Rejection, Target

REASON = Code("wrong-view", "99DCMNODE", "Wrong view")
BLUR = 4


class BrightSpot(nn.Module):
    """Two classes, dark and bright, by the brightest spot of the image.

    The second channel of `features` is the local mean brightness, so that Grad-CAM of "bright"
    must point at the spot.
    """

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, BLUR, stride=BLUR)
        self.head = nn.Linear(2, outputs)

    def forward(self, image: Tensor) -> Tensor:
        found = torch.relu(self.features(image))
        return self.head(found.flatten(2).max(-1).values)


def weights(outputs: int = 2) -> dict[str, Tensor]:
    """Weights by hand: channel 0 is darkness, channel 1 brightness."""
    mean = torch.full((1, BLUR, BLUR), 1 / BLUR**2)
    head = torch.tensor([[1.0, 0.0], [0.0, 8.0]])[2 - outputs :]
    return {
        "features.weight": torch.stack([-mean, mean]).half(),
        "features.bias": torch.tensor([1.0, 0.0]).half(),
        "head.weight": head.half(),
        "head.bias": torch.zeros(outputs).half(),
    }


def halves(image: Tensor, attributes: Mapping[str, Any]) -> list[Target | Rejection]:
    """Two knees in one image: the patient's right stands on the left; the left is mirrored."""
    _, height, width = image.shape
    half = width // 2
    return [
        Target("right knee", Side.RIGHT, "position", box=(0, 0, half, height)),
        Target("left knee", Side.LEFT, "position", box=(half, 0, half, height), mirror=True),
    ]


def nothing(image: Tensor, attributes: Mapping[str, Any]) -> list[Target | Rejection]:
    return []


def empty_box(image: Tensor, attributes: Mapping[str, Any]) -> list[Target | Rejection]:
    return [Target("knee", box=(0, 0, 0, 5))]


def rejecting(image: Tensor, attributes: Mapping[str, Any]) -> list[Target | Rejection]:
    whole = Rejection(REASON, "the image is not an AP view of the knee.")
    return [Target("left knee", Side.LEFT, rejection=whole)]


def quoting_the_patient(image: Tensor, attributes: Mapping[str, Any]) -> list[Target | Rejection]:
    raise ValueError(f"no knee in the image of {attributes['PatientName']}")


def lateral_view_is_refused(data: Mapping[str, Any]) -> Rejection | None:
    if data["attributes"].get("ViewPosition") == "LL":
        return Rejection(REASON, "the image is a lateral view")
    return None


class Probabilities:
    """Network output to `probabilities` and `set`."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        found = torch.softmax(data["pred"], -1)
        members = torch.argsort(found, descending=True)[: 1 if found.max() > 0.9 else 2]
        return {**data, "probabilities": found, "set": members}


class NotFinite(nn.Module):
    """A network that fails without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, BLUR, stride=BLUR)
        self.head = nn.Linear(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        return torch.full((len(image), 2), float("nan"))


class WithoutSoftmax:
    """A bundle whose author forgot to make probabilities."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "probabilities": data["pred"], "set": [0]}


class BrightestValue:
    """Regression and region: the output as a number, and where the image is bright."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        mask = torch.as_tensor(data["image"])[0] > 0.5
        return {**data, "value": data["pred"], "value_sd": 0.5, "mask": mask}


class MiddleSlices:
    """A volume to a batch of two slices, and its mean HU."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        image = data["image"]
        slices = data["target"].slices
        picked = torch.stack([torch.as_tensor(image)[..., n] for n in slices])
        return {**data, "image": picked / 1000, "hu": float(picked.mean()), "batched": True}


class Density:
    """One number for a batch of slices, and a region on them."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        shape = tuple(data["image"].shape)
        mask = np.zeros((shape[0], *shape[2:]), bool)
        mask[:, 2:4, 2:4] = True
        return {**data, "density": data["hu"], "mask": mask}


def two_levels(image: Tensor, attributes: Mapping[str, Any]) -> list[Target | Rejection]:
    return [
        Target("L1", slices=(2, 3)),
        Target("L2", slices=(1, 2)),
        Target("L3", rejection=Rejection(REASON, "a screw is near")),
    ]
