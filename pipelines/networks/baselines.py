"""Networks that others are compared with: AlexNet, VGG-16, ResNet-18 and -50, a 3-layer CNN.

Each is the part that makes features, [N, 3, h, w] to [N, channels, h', w'], under the names that
torchvision gives its tensors: its files of ImageNet weights load as they are, and so do MONAI's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from monai.networks.nets import resnet18, resnet50
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.networks.superfluity import WIDTHS, Superfluity

_VGG_16: Final = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of its convolutions (Simonyan and Zisserman, arXiv 1409.1556, D); 0: pooled."""
_HEADS: Final = ("fc.", "classifier.")
_PREFIXES: Final = ("module.", "features.")


def alexnet() -> nn.Sequential:
    """AlexNet's five convolutions (Krizhevsky, arXiv 1404.5997): 256 channels."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    """VGG-16's thirteen convolutions, with batch normalisation (torchvision: vgg16_bn): 512."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in _VGG_16:
        if not outputs:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU(inplace=True))
        inputs = outputs
    return nn.Sequential(*layers)


def three_layers() -> nn.Sequential:
    """Three convolutions, each pooled: 64 channels."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def _resnet(made: Callable[..., nn.Module]) -> Callable[[], nn.Sequential]:
    def body() -> nn.Sequential:
        # MONAI's own stem has stride 1, ten times the work; torchvision's has 2. Torchvision also
        # changes size in the shortcuts by convolution ("B") in both networks
        network = made(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, shortcut_type="B")
        parts = OrderedDict(network.named_children())
        for name in ("avgpool", "fc"):
            parts.pop(name, None)
        return nn.Sequential(parts)

    return body


BODIES: Final[Mapping[str, tuple[Callable[[], nn.Sequential], int]]] = {
    "superfluity": (Superfluity, 2 * WIDTHS[-1]),
    "alexnet": (alexnet, 256),
    "vgg16": (vgg16, 512),
    "resnet18": (_resnet(resnet18), 512),
    "resnet50": (_resnet(resnet50), 2048),
    "three_layers": (three_layers, 64),
}
"""By name: what makes it, and its channels."""


def load_body(body: nn.Module, file: Path) -> None:
    """Load features from a file of torchvision's, MONAI's or this project's; its head is left out.

    Args:
        file: safetensors, or a torch file of tensors alone (`weights_only`).

    Raises:
        ValueError: A tensor is missing, of another shape, or not known.
    """
    given = _plain(_read(file))
    wanted = body.state_dict()
    for name, tensor in wanted.items():
        # torchvision's older files do not count batches
        if name.endswith("num_batches_tracked"):
            given.setdefault(name, tensor)
        if name not in given:
            raise ValueError(f"{file.name} has no tensor {name}: it is of another network")
        if given[name].shape != tensor.shape:
            raise ValueError(
                f"{file.name}: {name} is {list(given[name].shape)}, not {list(tensor.shape)}"
            )
    others = [name for name in given if name not in wanted]
    if others:
        raise ValueError(f"{file.name} has a tensor {others[0]} that the network has not")
    body.load_state_dict(given)


def _read(file: Path) -> Mapping[str, Any]:
    if file.suffix == ".safetensors":
        return load_file(file)
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    # MONAI and MedicalNet keep the tensors under this name
    found = loaded.get("state_dict", loaded)
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{file.name} holds other things than tensors")
    return dict(found)


def _plain(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wraps the network, and without the head."""
    found = {}
    for name, tensor in given.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if not name.startswith(_HEADS):
            found[name] = tensor.float() if tensor.is_floating_point() else tensor
    return found
