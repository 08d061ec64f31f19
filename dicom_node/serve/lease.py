"""A worker's claim on a job, renewed in the background while the job runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.logs import error_facts

Log = structlog.typing.FilteringBoundLogger


class Lease:
    """Renews a claim until it is left.

    Args:
        renew: Extends the claim; False when the job need not go on.
        lost: Called the first time that it need not.
    """

    def __init__(
        self,
        renew: Callable[[], bool],
        every: timedelta,
        log: Log,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._renew = renew
        self._lost = lost
        self._log = log
        self._every = every.total_seconds()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._done.wait(self._every):
            try:
                if not self._renew() and not told:
                    told = True
                    why = "another worker has it, or its result is outdated"
                    self._log.warning("job_claim_lost", why=why)
                    self._lost()
            except SQLAlchemyError as error:
                # the job goes on: the next turn may succeed before the claim runs out
                self._log.warning("job_claim_not_renewed", **error_facts(error))
