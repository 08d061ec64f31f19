"""Does a quantity grow? The slope of a straight line through its samples, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats


class Verdict(StrEnum):
    """What the samples say.

    FLAT: even the upper end of the interval is within the allowance. GROWS: even its lower end
    is above it. UNCLEAR: neither; a longer run tells.
    """

    FLAT = "flat"
    GROWS = "grows"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line's slope per hour, with its 95 % confidence interval.

    Attributes:
        mean: Of the samples.
    """

    mean: float
    per_hour: float
    low: float
    high: float

    def verdict(self, allowed: float) -> Verdict:
        """Judge it; `allowed` is what may come in an hour."""
        if self.low > allowed:
            return Verdict.GROWS
        return Verdict.FLAT if self.high <= allowed else Verdict.UNCLEAR


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line by least squares.

    Neighbouring samples of a process's memory are alike, so there are fewer independent ones
    than samples: the interval is that of n (1 - r) / (1 + r) of them, r being the residuals'
    correlation from one sample to the next (Bayley and Hammersley 1946, for a first-order
    process), and at least 6.

    Args:
        seconds, values: At least 4 samples, in the order of time.

    Raises:
        ValueError: Fewer.
    """
    if len(values) < 4:
        raise ValueError(f"{len(values)} samples tell no slope: at least 4")
    hours = np.asarray(seconds, dtype=float) / 3600
    samples = np.asarray(values, dtype=float)
    middle = hours - hours.mean()
    spread = float((middle**2).sum())
    rise = float((middle * samples).sum()) / spread
    residuals = samples - samples.mean() - rise * middle
    squares = float((residuals**2).sum())
    mean = float(samples.mean())
    rounding = 1e-9 * max(1.0, abs(mean))
    if abs(rise) * float(np.ptp(hours)) <= rounding:
        rise = 0.0
    if math.sqrt(squares) <= rounding:  # all on the line
        return Slope(mean, rise, rise, rise)
    alike = max(0.0, float((residuals[1:] * residuals[:-1]).sum()) / squares)
    number = len(samples)
    independent = max(6.0, number * (1 - alike) / (1 + alike))
    freedom = independent - 2
    error = math.sqrt(squares / freedom / spread)
    reach = float(stats.t.ppf(0.975, freedom)) * error
    return Slope(mean, rise, rise - reach, rise + reach)


def after_warm_up(
    seconds: Sequence[float], values: Sequence[float], share: float
) -> tuple[Sequence[float], Sequence[float]]:
    """Leave out the samples of the first share of the time."""
    begin = seconds[0] + share * (seconds[-1] - seconds[0])
    first = next(number for number, at in enumerate(seconds) if at >= begin)
    return seconds[first:], values[first:]
