"""Work that recurs: the next turn comes all the same, after an exception or a clock put back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.clock import Clock, ClockSteps, SystemClock
from dicom_node.logs import error_facts

_log = structlog.get_logger()

_PUT_BACK: Final = -1.0
"""Seconds by which a clock is set at least that was put back."""


class Timetable:
    """Runs each piece of work in its turn, in threads of its own, and never twice at once.

    APScheduler goes by the machine's clock: one that is put back by an hour would let all work
    rest for an hour, so `keep_time` has to be called again and again.
    """

    def __init__(
        self,
        threads: int,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = ClockSteps(clock or SystemClock(), monotonic)
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(threads)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def every(self, seconds: float, work: Callable[[], object], name: str = "") -> None:
        """Let work recur; `name` is by default the function's, and may be given once."""
        name = name or work.__name__
        self._scheduler.add_job(Recurring(name, work), "interval", seconds=seconds, id=name)

    def next_at(self, name: str, at: datetime) -> None:
        """Let a piece of work have its next turn at a time of the machine's clock."""
        self._scheduler.modify_job(name, next_run_time=at)

    def keep_time(self) -> None:
        """Let all work have its turn now if the clock was put back since the last call."""
        step = self._steps.look()
        if step < _PUT_BACK:
            _log.warning("clock_put_back", by_seconds=round(-step, 1))
            for job in self._scheduler.get_jobs():
                self.next_at(job.id, datetime.now(UTC))

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        """End it after the work in hand."""
        self._scheduler.shutdown(wait=True)


class Recurring:
    """Runs a piece of work; to be called by the scheduler, again and again.

    A failure is logged the first time, then at every doubling of the failures in a row: work
    that runs four times a second must not fill the disk with one and the same line. The first
    success after it is logged, too.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self._failures = 0

    def __call__(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next turn must come
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:
                _log.error(
                    "recurring_work_failed",
                    work=self._name,
                    failures_in_a_row=self._failures,
                    **error_facts(error),
                )
            return
        if self._failures:
            _log.info("recurring_work_recovered", work=self._name, after_failures=self._failures)
            self._failures = 0
