"""When a backfill may pull the next study: office hours, rate, and room for what comes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.errors import ConfigError
from dicom_node.serve.disk import DiskLevel, disk_state
from dicom_node.store import overview, retrievals
from dicom_node.store.database import Database

_MOST_FILES: Final = 2000
_LOOK_AGAIN: Final = 5.0
_WORTH_A_WORD: Final = 30.0


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of the day in local time; it may go over midnight."""

    begin: time
    end: time

    @staticmethod
    def parse(text: str) -> Hours:
        """Read "20:00-06:00".

        Raises:
            ConfigError: It is not of this form.
        """
        try:
            begin, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
        except ValueError:
            raise ConfigError(
                "--hours", f"{text!r} is no time of day", "write 20:00-06:00"
            ) from None
        if begin == end or begin.tzinfo or end.tzinfo:
            why = f"{text!r} is no part of the day in local time"
            raise ConfigError("--hours", why, "write 20:00-06:00")
        return Hours(begin, end)

    def hold(self, at: time) -> bool:
        if self.begin <= self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"


def parse_rate(text: str) -> timedelta:
    """Read "30/min" or "200/h": the time from one study to the next.

    Raises:
        ConfigError: It is not of this form.
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(min|h)\s*", text)
    if match is None or int(match[1]) == 0:
        raise ConfigError("--rate", f"{text!r} is no rate", "write 30/min or 200/h")
    return timedelta(minutes=1 if match[2] == "min" else 60) / int(match[1])


class Pace:
    """Says what the next study has to wait for.

    Args:
        interval: From the begin of one study to that of the next.
        most_queued: So many jobs may wait at most.
    """

    def __init__(
        self,
        config: NodeConfig,
        database: Database,
        clock: Clock,
        *,
        hours: Hours | None = None,
        interval: timedelta = timedelta(0),
        most_queued: int = 200,
    ) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._hours = hours
        self._interval = interval
        self._most_queued = most_queued
        self._last: datetime | None = None

    def waits(self, wait: Callable[[float], bool]) -> Iterator[str]:
        """Wait for the next study's turn; yields each new reason to wait for long.

        Args:
            wait: Waits for seconds; True when it was told to stop, which ends the waiting.
        """
        told = ""
        while held := self._held():
            reason, seconds = held
            if reason != told:
                told = reason
                if reason:
                    yield reason
            if wait(seconds):
                return
        self._last = self._clock.now()

    def _held(self) -> tuple[str, float] | None:
        now = self._clock.now()
        local = now.astimezone().time()
        if self._hours is not None and not self._hours.hold(local):
            return f"it is not {self._hours} yet", 30
        disk = disk_state(self._config)
        if disk.level is not DiskLevel.OK:
            return f"the disk is {disk.level}: {disk.seen}", _LOOK_AGAIN
        with self._database.read() as session:
            queued = retrievals.queued_jobs(session)
        if queued >= self._most_queued:
            return f"{self._most_queued} jobs or more wait for a worker", _LOOK_AGAIN
        if overview.spool_counts(self._config.spool_dir).waiting >= _MOST_FILES:
            return f"{_MOST_FILES} files or more wait to be indexed", _LOOK_AGAIN
        if self._last is not None:
            self._last = min(self._last, now)  # the clock may have been put back
            left = (self._last + self._interval - now).total_seconds()
            if left > 0:
                # a short wait is not worth a word, nor the end of an association
                return "the rate" if left > _WORTH_A_WORD else "", left
        return None
