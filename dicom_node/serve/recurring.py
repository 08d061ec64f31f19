"""Work that recurs: an exception is told and the next turn comes all the same."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from dicom_node.logs import error_facts

_log = structlog.get_logger()


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
