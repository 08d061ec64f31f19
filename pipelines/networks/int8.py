"""Large convolutions kept as 8-bit integers with a scale for each output channel.

A file of ResNet-50 is then half as large as in half precision. The network itself computes in
floating point: weights are turned into integers as its state is taken, and back as it is loaded
(symmetric, one scale per output channel: Krishnamoorthi, arXiv 1806.08342, 3.1).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

import torch
from torch import Tensor, nn

LEAST: Final = 65_536
"""Convolutions with fewer weights stay as they are: they hold little and are the first layers."""
_INT8, _SCALE = "weight_int8", "weight_scale"


def keep_in_int8(network: nn.Module) -> None:
    """Make `state_dict` of the whole network give its large convolutions as integers.

    `load_state_dict` then takes them, and takes plain weights too.
    """
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.weight.numel() >= LEAST
    ]

    def given(module: nn.Module, state: MutableMapping[str, Any], prefix: str, _: Any) -> None:
        for name in names:
            values, scale = quantised(state.pop(f"{prefix}{name}.weight"))
            state[f"{prefix}{name}.{_INT8}"], state[f"{prefix}{name}.{_SCALE}"] = values, scale

    def taken(
        module: nn.Module, state: MutableMapping[str, Any], prefix: str, *others: Any
    ) -> None:
        for name in names:
            at = f"{prefix}{name}."
            if at + _INT8 in state and at + _SCALE in state:
                state[at + "weight"] = restored(state.pop(at + _INT8), state.pop(at + _SCALE))

    network.register_state_dict_post_hook(given)
    network.register_load_state_dict_pre_hook(taken)


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight [outputs, ...] as int8, and the scale [outputs]."""
    flat = weight.detach().flatten(1)
    scale = (flat.abs().amax(1) / 127).clamp_min(1e-8)
    shape = [-1] + [1] * (weight.dim() - 1)
    return (weight.detach() / scale.view(shape)).round().to(torch.int8), scale


def restored(values: Tensor, scale: Tensor) -> Tensor:
    """Return the weight that `quantised` was given, as near as 8 bits are."""
    return values.float() * scale.float().view([-1] + [1] * (values.dim() - 1))
