"""Batch normalisation folded into the convolution before it: the same numbers in one step less."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(network: nn.Module, keep: str = "") -> int:
    """Fold each `BatchNorm2d` that follows a `Conv2d` in an `nn.Sequential`; returns how many.

    Only there is it certain that nothing else reads the convolution. What is left in its place is
    an `Identity`, so that the names of layers stay. Numbers change by rounding alone.

    Args:
        keep: A layer whose output is looked at: if it is such a convolution, it stays as it is.
    """
    folded = 0
    shared = _used_more_than_once(network)
    for place, parent in network.named_modules():
        if type(parent) is not nn.Sequential:
            continue
        for (name, conv), (after, norm) in pairwise(list(parent.named_children())):
            if not isinstance(conv, nn.Conv2d) or type(norm) is not nn.BatchNorm2d:
                continue
            mean, variance = norm.running_mean, norm.running_var
            looked_at = keep == (f"{place}.{name}" if place else name)
            if mean is None or variance is None or looked_at or {id(conv), id(norm)} & shared:
                continue
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
            )
            parent._modules[after] = nn.Identity()
            folded += 1
    for tensor in network.parameters():
        tensor.requires_grad_(False)
    return folded


def _used_more_than_once(network: nn.Module) -> set[int]:
    """Return the ids of modules that stand in several places."""
    seen: set[int] = set()
    double: set[int] = set()
    for _, module in network.named_modules(remove_duplicate=False):
        (double if id(module) in seen else seen).add(id(module))
    return double
