"""Small networks for the letter that names the side: one spots what may be it, two read it."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

SPOT_WINDOW: Final = 32
SPOT_STRIDE: Final = 4
SPOT_HEIGHT: Final = 16.0
"""Pixels of the letters that the spotter sees best; it bridges 0.7 to 1.45 of that."""
READ_WINDOW: Final = 40
READ_HEIGHT: Final = 20.0
"""Pixels of the letter in the reader's window."""
_FLAT: Final = 0.05
"""Added to the deviation: what hardly differs from its surroundings is not to look like ink."""


class MarkerSpotter(nn.Module):
    """Fully convolutional: [N, 1, H, W] to [N, 4, (H - 32) / 4 + 1, (W - 32) / 4 + 1].

    The channels are the logit that a letter lies in the middle of the window, its offset right
    and down in pixels, and the logarithm of its height relative to `SPOT_HEIGHT`.
    """

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(1, width, 5, 2),  # 14
            *_block(width, 16, 3),  # 12
            nn.MaxPool2d(2),  # 6
            *_block(16, 24, 3),  # 4
            *_block(24, 48, 4),  # 1
            nn.Conv2d(48, 4, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.layers(image)
        return found


class MarkerReader(nn.Module):
    """[N, 1, 40, 40] around a letter to logits of: no marker, L, R."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(1, width, 3),  # 38
            *_block(width, width, 3),  # 36
            nn.MaxPool2d(2),  # 18
            *_block(width, 2 * width, 3),  # 16
            *_block(2 * width, 2 * width, 3),  # 14
            nn.MaxPool2d(2),  # 7
            *_block(2 * width, 3 * width, 3),  # 5
            *_block(3 * width, 3 * width, 5),  # 1
            nn.Conv2d(3 * width, 3, 1),
        )

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.layers(windows)
        return logits.flatten(1)


class SideMarkerNetwork(nn.Module):
    """The spotter and two readers, as their weights lie in one file.

    Two readers that learned from the same scenes in another order agree on letters, and seldom on
    the corner of a bone or a plate that one of them takes for an L.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spotter = MarkerSpotter()
        self.readers = nn.ModuleList([MarkerReader(), MarkerReader()])


def normalised(image: Tensor, side: int) -> Tensor:
    """Give each pixel's surroundings, a square of `side`, mean 0 and deviation 1: [N, 1, H, W]."""
    if min(image.shape[-2:]) <= side:
        mean = image.mean((2, 3), keepdim=True)
        spread = image.std((2, 3), keepdim=True)
    else:
        mean = _around(image, side)
        spread = (_around(image * image, side) - mean * mean).clamp_min(0).sqrt()
    return (image - mean) / (spread + _FLAT)


def _around(image: Tensor, side: int) -> Tensor:
    """Mean of the square around each place, worked out at every fourth pixel."""
    small = F.avg_pool2d(image, 4, ceil_mode=True, count_include_pad=False)
    reach = side // 8
    wide = F.avg_pool2d(small, 2 * reach + 1, 1, reach, count_include_pad=False)
    size = tuple(image.shape[-2:])
    return F.interpolate(wide, size, mode="bilinear", align_corners=False)


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
