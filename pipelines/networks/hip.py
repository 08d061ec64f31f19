"""A small residual network for radiographs, quick on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class HipDeviceNet(nn.Module):
    """[N, 1, H, W] in 0..1 to [N, classes] logits. Grad-CAM layer: `features`.

    Each image is standardised inside, so that gain and offset of the exposure do not matter.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _Residual(width, 2 * width, 2),
            _Residual(2 * width, 4 * width, 2),
            _Residual(4 * width, 6 * width, 2),
            _Residual(6 * width, 8 * width, 1),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * 8 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        mean = image.mean((1, 2, 3), keepdim=True)
        spread = image.std((1, 2, 3), keepdim=True).clamp_min(1e-4)
        features = self.features((image - mean) / spread)
        # the mean sees the hip, the maximum a wire that fills a thousandth of the image
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits
