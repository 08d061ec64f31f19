"""Small bar charts as plain numbers, which a template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 240
HEIGHT: Final = 44
_GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in units of the chart's view box."""

    x: float
    y: float
    width: float
    height: float
    value: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart and the same in words, for who cannot see it."""

    bars: tuple[Bar, ...]
    total: int
    words: str
    width: int = WIDTH
    height: int = HEIGHT


def chart(values: Sequence[int], part: str) -> Chart:
    """Lay out bars, the oldest at the left; a value that is not 0 is always seen.

    Args:
        part: What one bar stands for, in words.
    """
    most = max(values, default=0)
    step = WIDTH / max(1, len(values))
    bars = []
    for number, value in enumerate(values):
        height = 0.0 if not value else max(3.0, HEIGHT * value / most)
        bars.append(
            Bar(
                round(number * step, 2),
                round(HEIGHT - height, 2),
                round(step - _GAP, 2),
                round(height, 2),
                value,
            )
        )
    total = sum(values)
    words = f"{total}, at most {most} in one {part}" if total else "none"
    return Chart(tuple(bars), total, words)
