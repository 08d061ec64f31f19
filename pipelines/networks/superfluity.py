"""Superfluity: two flows of two kinds of block that read each other's features all the way.

After Naguib et al., Sci Rep 2024;14:25434, doi 10.1038/s41598-024-75549-0: "two distinct types of
block", and layers that are concatenated instead of stacked one behind the other. Widths, kernels
and depth are not in the abstract: those here are this project's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

WIDTHS: Final = (24, 48, 96, 160)
"""Channels of each flow, stage by stage."""


class LocalBlock(nn.Sequential):
    """The first kind: two 3x3 convolutions, then the strongest of 2x2 (trabeculae, edges)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            *_convolved(inputs, outputs, 3), *_convolved(outputs, outputs, 3), nn.MaxPool2d(2)
        )


class WideBlock(nn.Sequential):
    """The second kind: channels mixed, each seen 7x7 wide, mixed again, averaged (density)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            *_convolved(inputs, outputs, 1),
            *_convolved(outputs, outputs, 7, groups=outputs),
            *_convolved(outputs, outputs, 1),
            nn.AvgPool2d(2),
        )


class Stage(nn.Module):
    """One block of each kind, side by side; both read both flows."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.local = LocalBlock(inputs, outputs)
        self.wide = WideBlock(inputs, outputs)

    def forward(self, flows: Tensor) -> Tensor:
        return torch.cat([self.local(flows), self.wide(flows)], 1)


class Superfluity(nn.Sequential):
    """Image [N, 3, h, w] to features [N, 2 * widths[-1], h / 32, w / 32]."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        stem = nn.Sequential(*_convolved(3, widths[0], 3, stride=2))
        inputs = [widths[0], *(2 * width for width in widths[:-1])]
        stages = (Stage(i, o) for i, o in zip(inputs, widths, strict=True))
        super().__init__(stem, *stages)


def _convolved(
    inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
