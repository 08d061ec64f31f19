"""The worker: takes jobs, runs their pipeline warm, makes the report, fills the outbox."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from dicom_node.clock import Clock
from dicom_node.errors import HostAwayError, NodeError
from dicom_node.hosts.files import Files
from dicom_node.logs import error_facts
from dicom_node.model.pipeline import InputKind
from dicom_node.serve.failures import BLAMELESS, HOST, OUT_OF_MEMORY, LostError, error_of
from dicom_node.serve.lease import Lease, Log
from dicom_node.serve.limits import lift_memory_limit, loss_of
from dicom_node.serve.products import Executor, Products
from dicom_node.serve.stopping import Stoppable, UnwantedError
from dicom_node.store import jobs, losses, notices
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewReport
from dicom_node.store.kept import KeptKind
from dicom_node.store.losses import Loss, LossPolicy
from dicom_node.store.postgres import is_away
from dicom_node.store.tables import Job
from dicom_node.store.wake import Polling, Wake

_log = structlog.get_logger()

_WITHOUT_DATABASE: Final = 1.0
"""Seconds between two looks whether the database is there again."""
_BLAMELESS_WAITS: Final = 6
"""How many times the wait for another attempt a disk or a host gets to be seen to."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker claims and retries.

    Attributes:
        time_limit: Of a job, where `time_limits` has none for its pipeline.
        quarantine_after: A study whose jobs took down so many workers is held; 0: never.
        report_failures: A job that fails for good sends a report that says so.
        batch: So many waiting jobs of one pipeline are taken at once, if it takes radiographs.
        workers: Among how many workers what waits is shared.
    """

    name: str
    lease: timedelta
    attempts: int
    retry_wait: timedelta
    time_limit: timedelta = timedelta(minutes=10)
    time_limits: Mapping[str, timedelta] = field(default_factory=dict)
    quarantine_after: int = 0
    report_failures: bool = False
    batch: int = 1
    workers: int = 1

    def limit_of(self, pipeline: str) -> timedelta:
        return self.time_limits.get(pipeline, self.time_limit)

    @property
    def policy(self) -> LossPolicy:
        return LossPolicy(
            self.attempts, self.retry_wait, self.quarantine_after, self.report_failures
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is ours, and its study."""

    job: Job
    study_uid: str

    @property
    def log(self) -> Log:
        log: Log = _log.bind(
            job_id=self.job.id, pipeline=self.job.pipeline, study_uid=self.study_uid
        )
        return log


class Worker:
    """Runs jobs one after another.

    A job's objects are on disk before the one transaction that marks it done and fills the
    outbox; killed in between, the job is run again and makes the same objects.

    Args:
        wake: What it waits on when there is nothing to do.
        limited: Context in which a job runs: when it takes longer, the process is killed.
        files: The way to what other hosts hold; None: all is in the two folders.
        host: What this host is called; None: all hosts share one data folder.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        database: Database,
        executor: Executor,
        spool_dir: Path,
        reports_dir: Path,
        clock: Clock,
        limited: Callable[[timedelta], AbstractContextManager[object]] = nullcontext,
        wake: Wake | None = None,
        files: Files | None = None,
        host: str | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._executor = executor
        folders = {KeptKind.INSTANCE: spool_dir, KeptKind.REPORT: reports_dir}
        self._products = Products(database, executor, files or Files(folders), reports_dir, host)
        self._clock = clock
        self._limited = limited
        self._wake = wake or Polling()
        self._spent = False
        self._notices_later: dict[int, datetime] = {}

    def take_back(
        self,
        status: int | None = None,
        *,
        lost: Loss | None = None,
        besides: Collection[int] = (),
    ) -> None:
        """Take back what a worker of this name held when it died.

        Args:
            status: How it ended, as `subprocess` tells it; None: not known.
            lost: What that was to its jobs, where they ran elsewhere.
            besides: Jobs that it has in hand.
        """
        settings = self._settings
        with self._database.write() as session:
            several = jobs.held(session, settings.name) > 1

            def loss(job: Job) -> Loss:
                found = lost or loss_of(status, settings.limit_of(job.pipeline))
                # of jobs that ran together nobody knows which one it was: each runs alone now
                return replace(found, blamed=found.blamed and not several)

            back = losses.requeue_lost(
                session,
                self._clock.now(),
                settings.policy,
                worker=settings.name,
                loss=loss,
                besides=besides,
            )
        if back:
            _log.warning("jobs_taken_back", job_ids=back, status=status)

    def run(self, stop: threading.Event, idle: timedelta) -> None:
        """Run jobs until told to stop.

        Raises:
            NodeError: A job used up the memory: what it left behind goes with the process.
        """
        lost = False
        while not stop.is_set():
            try:
                if lost:
                    # what was claimed when the connection broke, and we were not told of
                    self.take_back()
                    lost = False
                if not self.run_one():
                    self._wake.wait(stop, idle.total_seconds())
            except DBAPIError as error:
                if not is_away(error):
                    raise
                lost = True
                _log.warning("database_away", **error_facts(error))
                stop.wait(_WITHOUT_DATABASE)
            if self._spent:
                raise NodeError(
                    "worker", "a job used up its memory", "nothing: it is started again, empty"
                )

    def run_one(self) -> bool:
        """Run a job, or a batch of them, or report one that failed; False when none is due."""
        if self.report_failure():
            return True
        batch = self.claim()
        if not batch:
            return False
        left = self._run_together(batch) if len(batch) > 1 else batch
        with (
            Lease(self._renew_all(left), self._settings.lease / 3, _log)
            if left[1:]
            else nullcontext()
        ):
            for item in left:
                self.run_alone(item)
        return True

    def claim(self, leave: Collection[str] = ()) -> list[Claimed]:
        """Take the next job, or a batch of them; empty when none is due.

        Args:
            leave: Pipelines whose jobs are left to others.
        """
        settings = self._settings
        with self._database.write(alone=False) as session:
            claimed = jobs.claim_batch(
                session,
                settings.name,
                self._clock.now(),
                settings.lease,
                self._most_together,
                settings.workers,
                leave,
            )
            batch = [Claimed(job, job.study.study_instance_uid) for job in claimed]
        for item in batch:
            item.log.info(
                "job_started",
                images=len(item.job.inputs),
                attempt=item.job.attempts,
                together=len(batch),
            )
        return batch

    def _most_together(self, pipeline: str) -> int:
        if self._settings.batch == 1:
            return 1
        volume = self._executor.spec(pipeline).input.kind is InputKind.VOLUME
        return 1 if volume else self._settings.batch

    def _run_together(self, batch: Sequence[Claimed]) -> Sequence[Claimed]:
        """Run jobs of one pipeline; returns those that are yet to be run, each alone."""
        done = 0
        pipeline = batch[0].job.pipeline
        limits = self._settings.limit_of(pipeline) * len(batch)
        facts: dict[str, str] = {}
        try:
            with Lease(self._renew_all(batch), self._settings.lease / 3, _log):
                inputs = [self._products.input(item.job, item.study_uid) for item in batch]
                with self._limited(limits):
                    outcomes = self._executor.run_many(pipeline, inputs)
                    for item, job_input, outcome in zip(batch, inputs, outcomes, strict=True):
                        self._finish(
                            item, self._products.of(item.job, item.study_uid, job_input, outcome)
                        )
                        done += 1
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a pipeline may raise anything
            facts = error_facts(error)
        finally:
            for item in batch:
                self._products.release(item.job)
        if facts:
            _log.warning("batch_split", pipeline=pipeline, jobs=len(batch) - done, **facts)
        return batch[done:]

    def run_alone(self, item: Claimed) -> None:
        """Run a job that is ours, and record how it ended."""
        job = item.job
        failure: dict[str, str] | None = None
        running = Stoppable()
        try:
            with Lease(self._renew(job.id), self._settings.lease / 3, item.log, running.stop):
                # what another host holds is fetched first: its network is not the job's time
                job_input = self._products.input(job, item.study_uid)
                with self._limited(self._settings.limit_of(job.pipeline)):
                    with running:
                        outcome = self._executor.run(job.pipeline, job_input)
                    result = self._products.of(item.job, item.study_uid, job_input, outcome)
        except UnwantedError:
            self._stop(item)
            return
        except LostError as error:
            self._lose(job, error.loss, item.log)
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a pipeline may raise anything
            failure = error_of(error, job)
        finally:
            self._products.release(job)
        if failure is not None:
            # outside of the handler: its error keeps the job's memory alive
            self._fail(job, failure, item.log)
            return
        self._finish(item, result)

    def _finish(self, item: Claimed, result: JobResult) -> None:
        def finish(session: Session) -> bool:
            return jobs.finish(session, item.job.id, self._settings.name, result, self._clock.now())

        kept = self._database.insist(finish, alone=False)
        item.log.info("job_finished" if kept else "job_lost", state=str(result.state))

    def _stop(self, item: Claimed) -> None:
        with self._database.write() as session:
            stopped = jobs.stop(session, item.job.id, self._settings.name, self._clock.now())
        item.log.info("job_stopped" if stopped else "job_lost")

    def _renew(self, job_id: int) -> Callable[[], bool]:
        def renew() -> bool:
            with self._database.write(alone=False) as session:
                return jobs.renew(
                    session,
                    job_id,
                    self._settings.name,
                    self._clock.now() + self._settings.lease,
                )

        return renew

    def _renew_all(self, batch: Sequence[Claimed]) -> Callable[[], bool]:
        renewals = [self._renew(item.job.id) for item in batch]

        def renew() -> bool:
            kept = [one() for one in renewals]  # every one, whatever the first says
            return any(kept)

        return renew

    def _fail(self, job: Job, error: dict[str, str], log: Log) -> None:
        settings = self._settings
        spent = error["reason"] == OUT_OF_MEMORY
        if spent:
            self._spent = True
            lift_memory_limit()
        now = self._clock.now()
        blameless = error["reason"] in BLAMELESS
        again = blameless or job.attempts < settings.attempts
        wait = settings.retry_wait * (_BLAMELESS_WAITS if blameless else job.attempts)
        retry_at = now + wait if again else None
        with self._database.write() as session:
            failed = jobs.fail(
                session,
                job.id,
                settings.name,
                error,
                now,
                retry_at,
                report=settings.report_failures,
                counts=not blameless,
            )
            if failed is not None and spent:
                losses.blame(session, failed, error["why"], now, settings.quarantine_after)
        if error["reason"] == HOST:
            log.warning("job_waits_for_host", **error)
        else:
            log.error("job_attempt_failed" if again else "job_failed", **error)

    def _lose(self, job: Job, loss: Loss, log: Log) -> None:
        settings = self._settings
        with self._database.write() as session:
            losses.lose(session, job.id, settings.name, loss, self._clock.now(), settings.policy)
        log.error("job_run_lost", reason=loss.reason, why=loss.why)

    def report_failure(self) -> bool:
        """Make the report that a job has failed; False when there is none to make."""
        with self._database.read() as session:
            now = self._clock.now()
            leave = [job_id for job_id, at in self._notices_later.items() if at > now]
            job = notices.due(session, leave)
            study_uid = job.study.study_instance_uid if job else ""
        if job is None:
            return False
        log = _log.bind(job_id=job.id, pipeline=job.pipeline, study_uid=study_uid)
        made: list[NewReport] = []
        why_not = ""
        try:
            made = self._products.of_failure(job, study_uid)
        except HostAwayError as error:
            log.warning("job_failure_waits_for_host", **error_facts(error))
            self._notices_later[job.id] = now + self._settings.retry_wait * _BLAMELESS_WAITS
            return False
        except Exception as error:  # noqa: BLE001 - told once, and not tried for ever
            facts = error_facts(error)
            why_not = facts.get("why") or f"{facts['error']} at {facts['where']}"
            log.error("job_failure_not_reported", **facts)
        finally:
            self._products.release(job)
        with self._database.write() as session:
            notices.put(session, job.id, made, self._clock.now(), why_not)
        return True
