"""A small network that finds the knee joint: a window in, "a joint sits here" and how far off."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

WINDOW: Final = 48
"""Pixels of the window that the crop around a joint fills."""
STRIDE: Final = 4


class KneeFinder(nn.Module):
    """Fully convolutional: [N, 1, H, W] to [N, 4, (H - 48) / 4 + 1, (W - 48) / 4 + 1].

    The channels are the logit that a joint's crop fills the window, its offset right and down
    in window sides, and the logarithm of its size relative to the window.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            )

        # no padding: a window means the same wherever it lies
        self.body = nn.Sequential(
            block(1, width),  # 46
            nn.MaxPool2d(2),  # 23
            block(width, 2 * width),  # 21
            block(2 * width, 2 * width),  # 19
        )
        self.pool = nn.MaxPool2d(3, 2)  # 9
        self.head = nn.Sequential(
            block(2 * width, 3 * width),  # 7
            nn.Conv2d(3 * width, 4 * width, 7, bias=False),  # 1
            nn.BatchNorm2d(4 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * width, 4, 1),
        )

    def forward(self, image: Tensor, every: int = 1) -> Tensor:
        """Look at every window, or only at every second, third ... one each way."""
        first, whole, *rest = self.head
        assert isinstance(whole, nn.Conv2d)
        found = first(self.pool(self.body(image)))
        found = F.conv2d(found, whole.weight, whole.bias, every)
        for layer in rest:
            found = layer(found)
        return found
