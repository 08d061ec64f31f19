"""When a failed delivery is tried again: exponential back-off with jitter and an upper age."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class RetryStrategy:
    """Decides on the next attempt.

    The wait doubles from `first` up to `longest`; jitter of up to a quarter keeps many objects
    from coming back at the same instant. After `give_up_after` in the queue it gives up.
    """

    first: timedelta
    longest: timedelta
    give_up_after: timedelta
    jitter: Callable[[], float] = random.random

    def next_attempt(self, attempts: int, queued_at: datetime, now: datetime) -> datetime | None:
        """Return when to try again after `attempts` failures; None: give up."""
        # beyond 2**30 waits are past `longest` anyway, and the float stays small
        wait = min(self.longest, self.first * 2 ** min(attempts - 1, 30))
        return self._due(wait, queued_at, now)

    def next_by_age(self, since: datetime, now: datetime) -> datetime | None:
        """Return when to try again what is tried in vain since a time; None: give up."""
        # waiting as long as it has waited already doubles the wait, too
        wait = min(self.longest, max(self.first, now - since))
        return self._due(wait, since, now)

    def _due(self, wait: timedelta, since: datetime, now: datetime) -> datetime | None:
        due = now + wait * (1 + self.jitter() / 4)
        return None if due - since > self.give_up_after else due
