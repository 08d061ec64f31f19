"""Networks that misbehave, each in its way; named by the inference.yaml of toy bundles."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

import torch
from torch import Tensor

from tests.unit.inference.tiny_parts import BrightSpot

_eaten: list[Tensor] = []


class SleepsForEver(BrightSpot):
    """Sleeps in C with the interpreter's lock held: no other thread of its process runs."""

    def forward(self, image: Tensor) -> Tensor:
        ctypes.PyDLL(None).sleep(10**6)
        return super().forward(image)


class Crashes(BrightSpot):
    """Writes to address 0."""

    def forward(self, image: Tensor) -> Tensor:
        ctypes.memset(0, 0, 1)
        return super().forward(image)


class EatsMemory(BrightSpot):
    """Takes memory for ever, and keeps it where no handler frees it."""

    def forward(self, image: Tensor) -> Tensor:
        while True:
            _eaten.append(torch.ones(64 * 1024 * 1024 // 4))


class Nonsense(BrightSpot):
    """Answers with what are no probabilities: the postprocessing has no softmax."""


class CrashesWhenLoaded(BrightSpot):
    """Takes down every process that builds it, but that of the test."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__(outputs)
        os.abort()


class WaitsForLeave(BrightSpot):
    """Leaves a mark with its process id in a folder, and goes on when a file `leave` is there.

    It is the process's business alone: the folder stands for a computation that takes long.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def forward(self, image: Tensor) -> Tensor:
        (self.folder / f"{os.getpid()}.began").touch()
        end = time.monotonic() + 120
        while not (self.folder / "leave").exists() and time.monotonic() < end:
            threading.Event().wait(0.05)
        return super().forward(image)
