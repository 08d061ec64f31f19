"""The networks of the two osteoporosis pipelines in one: joint finder, features, head."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from pipelines.networks.baselines import BODIES
from pipelines.networks.int8 import keep_in_int8
from pipelines.networks.knee_finder import KneeFinder

BORDER: Final = 0.12
"""Share of the side, at each edge, that is not seen: soft tissue, shafts, collimator, markers."""
_SEEN: Final = 0.18
"""From here on the image is seen in full; between, it fades."""


class KneeClassifier(nn.Module):
    """A crop of a knee [N, 1, h, w] in 0..1 to logits [N, classes].

    Args:
        network: A name of `pipelines.networks.baselines.BODIES`.
    """

    def __init__(self, network: str, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        made, channels = BODIES[network]
        self.body = made()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.pooled(image)))
        return logits

    def pooled(self, image: Tensor) -> Tensor:
        """Return the features of each image: [N, channels]."""
        found: Tensor = self.body(framed(image).expand(-1, 3, -1, -1)).mean((2, 3))
        return found


class KneeOsteoporosis(KneeClassifier):
    """`KneeClassifier` as it ships, with the joint finder beside it: one file holds all weights.

    The image and its mirror image are both looked at.

    Args:
        int8: Large convolutions are kept as 8-bit integers (`pipelines.networks.int8`).
    """

    def __init__(self, network: str, classes: int, int8: bool = False) -> None:
        super().__init__(network, classes)
        self.finder = KneeFinder()
        if int8:
            keep_in_int8(self)

    def forward(self, image: Tensor) -> Tensor:
        if self.training:
            return super().forward(image)
        return (super().forward(image) + super().forward(image.flip(-1))) / 2


def framed(image: Tensor) -> Tensor:
    """Give each image mean 0 and standard deviation 1, and fade it to 0 towards its border.

    Mean and deviation are those of what is seen: the border takes no part in them either.
    """
    window = _window(*image.shape[-2:]).to(image)
    total = window.sum()
    mean = (image * window).sum((1, 2, 3), keepdim=True) / total
    spread = (((image - mean) ** 2 * window).sum((1, 2, 3), keepdim=True) / total).sqrt()
    return (image - mean) / spread.clamp_min(1e-4) * window


def _window(height: int, width: int) -> Tensor:
    def ramp(side: int) -> Tensor:
        place = (torch.arange(side) + 0.5) / side
        from_border = torch.minimum(place, 1 - place)
        return ((from_border - BORDER) / (_SEEN - BORDER)).clamp(0, 1)

    return ramp(height)[:, None] * ramp(width)[None, :]
