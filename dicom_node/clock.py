"""The clock that is passed in wherever time matters, so that tests need not sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time in UTC, timezone-aware."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ClockSteps:
    """Notices that a clock was set while we ran: its step beside the monotonic clock's.

    A clock that is only made to run faster or slower, as NTP does, drifts by far less between
    two looks.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._last = clock.now(), monotonic()

    def look(self) -> float:
        """Return by how many seconds the clock was set since the last look."""
        (wall, steady), self._last = self._last, (self._clock.now(), self._monotonic())
        return (self._last[0] - wall).total_seconds() - (self._last[1] - steady)
