"""The worker of a Ray cluster: it claims jobs, and each waits in a thread for its actor."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from dicom_node.clock import Clock
from dicom_node.logs import error_facts
from dicom_node.serve.remote.cluster import Cluster, ClusterAwayError
from dicom_node.serve.remote.executor import AWAY, STOPPED, RayExecutor
from dicom_node.serve.selftest import record
from dicom_node.serve.worker import Claimed, Worker
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.losses import Loss
from dicom_node.store.postgres import is_away
from dicom_node.store.wake import Wake

_log = structlog.get_logger()

_WITHOUT_DATABASE: Final = 1.0
_COUNTS_EVERY: Final = 1.0
_FULL: Final = 0.05
"""Seconds until the next look whether an actor is free."""
LAST_WORDS: Final = 15.0
"""Seconds that jobs in hand get to end when the node stops."""
_LOOKS_EVERY: Final = 0.5
_GIVEN_BACK: Final = 10.0


_DATABASE_AWAY: Final = Loss("lost", "the database was away", blamed=False, counts=False)


class Dispatcher:
    """Claims no more jobs than the actors can take, and a few ahead.

    Args:
        worker: Whose claims, leases and results they are.
        tested: Actors ran their self-tests, whose results are recorded.
    """

    def __init__(
        self,
        worker: Worker,
        executor: RayExecutor,
        cluster: Cluster,
        database: Database,
        clock: Clock,
        wake: Wake,
        *,
        tested: bool,
    ) -> None:
        self._worker = worker
        self._executor = executor
        self._cluster = cluster
        self._database = database
        self._clock = clock
        self._wake = wake
        self._tested = tested
        self._lanes = ThreadPoolExecutor(max(1, executor.most_jobs), "lane")
        self._in_hand: dict[Future[None], Claimed] = {}
        self._counted = 0.0
        self._unsure: Loss | None = None
        self._freed = threading.Event()

    def run(self, turn: threading.Event, stop: threading.Event, idle: timedelta) -> None:
        """Run jobs until it is another's turn; those in hand end first.

        When the node stops they get a few seconds, and go back into the queue.

        Args:
            turn: Set when to return.
            stop: Set when the node stops, too.

        Raises:
            ClusterAwayError: The cluster is away; the jobs in hand are queued again.
        """
        try:
            while not turn.is_set():
                if self._cluster.is_away:
                    raise ClusterAwayError(self._cluster.address, "it does not answer any more")
                try:
                    self._take_back_unsure()
                    self._freed.clear()
                    if not self._turn():
                        # a job that ends makes room for another
                        self._wake.wait(self._freed, idle.total_seconds())
                except DBAPIError as error:
                    if not is_away(error):
                        raise
                    self._unsure = _DATABASE_AWAY
                    _log.warning("database_away", **error_facts(error))
                    turn.wait(_WITHOUT_DATABASE)
        finally:
            self._end(stop)

    def _turn(self) -> bool:
        """Claim a job, or report one that failed; False when there is nothing to do now."""
        for future in set(self._in_hand) - set(self._working):
            self._ended(future)
        for name, ready in self._executor.news():
            if self._tested:
                record(self._database, self._executor.algorithm(name), ready.differs, self._clock)
        if time.monotonic() - self._counted >= _COUNTS_EVERY:
            with self._database.read() as session:
                self._executor.expect(jobs.waiting(session))
            self._counted = time.monotonic()
        if self._worker.report_failure():
            return True
        if len(self._in_hand) >= self._executor.most_jobs:
            wait(self._in_hand, _FULL, return_when="FIRST_COMPLETED")
            return True
        claimed = self._worker.claim(self._executor.full())
        for item in claimed:
            self._executor.begin(item.job.pipeline)
            self._in_hand[self._lanes.submit(self._run, item)] = item
        return bool(claimed)

    def _run(self, item: Claimed) -> None:
        try:
            self._worker.run_alone(item)
        finally:
            self._executor.end(item.job.pipeline)
            self._freed.set()

    @property
    def _working(self) -> list[Future[None]]:
        return [future for future in self._in_hand if not future.done()]

    def _ended(self, future: Future[None]) -> None:
        item = self._in_hand.pop(future)
        error = future.exception()
        if error is None:
            return
        # it is run again; what is no fault of the database must not go on for ever
        away = isinstance(error, DBAPIError) and is_away(error)
        unknown = Loss("lost", "its end could not be recorded", blamed=False)
        self._unsure = _DATABASE_AWAY if away else unknown
        item.log.error("job_not_recorded", **error_facts(error))

    def _take_back_unsure(self) -> None:
        """Take back what is ours in the database and not in hand: a claim or an end was lost."""
        lost, self._unsure = self._unsure, None
        if lost is not None:
            running = [self._in_hand[future].job.id for future in self._working]
            self._worker.take_back(lost=lost, besides=running)

    def _end(self, stop: threading.Event) -> None:
        """Let the jobs in hand end; when the node stops, for a while, then give them back."""
        while self._working and not (stop.is_set() or self._cluster.is_away):
            wait(self._working, _LOOKS_EVERY, return_when="FIRST_COMPLETED")
        if stop.is_set() and not self._cluster.is_away:
            wait(self._working, LAST_WORDS)
        if self._working:
            self._executor.close(AWAY if self._cluster.is_away else STOPPED)
        left = wait(self._in_hand, _GIVEN_BACK).not_done
        self._lanes.shutdown(wait=False, cancel_futures=True)
        if left:
            _log.error("jobs_not_given_back", job_ids=[self._in_hand[one].job.id for one in left])
