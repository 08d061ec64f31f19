"""A network for `test_memory`, named by its bundle's inference.yaml."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.unit.inference.tiny_parts import BrightSpot


class TooLargeForTheGpu(BrightSpot):
    """Of several that are built, the first stands for the one on the GPU."""

    built = 0
    on_the_gpu = 1

    def __init__(self, outputs: int = 2) -> None:
        super().__init__(outputs)
        type(self).built += 1
        self.number = type(self).built

    def forward(self, image: Tensor) -> Tensor:
        if self.number <= self.on_the_gpu:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(image)
