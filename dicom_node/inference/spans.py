"""How long each stage of a job took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STAGES: Final = (
    "decode",
    "locate",
    "preprocess",
    "network",
    "postprocess",
    "saliency",
    "results",
    "store",
)
"""In the order of a job; "decode" is reading files to pixels, "store" is writing to disk."""


class Spans:
    """Seconds by stage, added up over a job's images; stages of neighbouring jobs may overlap."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - begun)

    def add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def seconds(self, stage: str) -> float:
        return self._seconds.get(stage, 0.0)

    def rounded(self) -> dict[str, float]:
        """Return seconds by stage, to the millisecond."""
        return {name: round(self._seconds[name], 3) for name in STAGES if name in self._seconds}
