"""The worker: takes jobs, runs their pipeline warm, makes the report, fills the outbox."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.clock import Clock
from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.files import read_header
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.logs import error_facts, place_of
from dicom_node.model.codes import Code
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.plain import rows_of
from dicom_node.model.states import JobState
from dicom_node.model.targets import Rejection
from dicom_node.results import build_report
from dicom_node.store import index, jobs
from dicom_node.store.database import Database
from dicom_node.store.files import write_durably
from dicom_node.store.jobs import JobResult, NewReport
from dicom_node.store.tables import Job

_log = structlog.get_logger()

Log = structlog.typing.FilteringBoundLogger


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker claims and retries."""

    name: str
    lease: timedelta
    attempts: int
    retry_wait: timedelta


class Executor(Protocol):
    """Runs pipelines, here or elsewhere."""

    def spec(self, name: str) -> PipelineSpec: ...

    def run(self, name: str, job: JobInput) -> Outcome: ...


class Worker:
    """Runs jobs one after another.

    A job's objects are on disk before the one transaction that marks it done and fills the
    outbox; killed in between, the job is run again and makes the same objects.
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
    ) -> None:
        self._settings = settings
        self._database = database
        self._executor = executor
        self._spool_dir = spool_dir
        self._reports_dir = reports_dir
        self._clock = clock

    def take_back(self) -> None:
        """Requeue what this worker held when it died."""
        with self._database.write() as session:
            lost = jobs.requeue_lost(
                session, self._clock.now(), self._settings.attempts + 1, self._settings.name
            )
        if lost:
            _log.warning("jobs_taken_back", job_ids=lost)

    def run(self, stop: threading.Event, idle: timedelta) -> None:
        """Run jobs until told to stop."""
        while not stop.is_set():
            if not self.run_one():
                stop.wait(idle.total_seconds())

    def run_one(self) -> bool:
        """Run one job; False when none is due."""
        with self._database.write() as session:
            job = jobs.claim(session, self._settings.name, self._clock.now(), self._settings.lease)
            if job is None:
                return False
            study_uid = job.study.study_instance_uid
        log = _log.bind(job_id=job.id, pipeline=job.pipeline, study_uid=study_uid)
        log.info("job_started", images=len(job.inputs), attempt=job.attempts)
        try:
            with _Lease(self._renew(job.id), self._settings.lease / 3, log):
                result = self._evaluate(job, study_uid)
        except NodeError as error:
            self._fail(job, {"what": error.what, "why": error.why, "fix": error.fix}, log)
            return True
        except Exception as error:  # noqa: BLE001 - a pipeline may raise anything; the job records it
            # neither the message nor the trace's values: both may hold patient data
            self._fail(
                job,
                {
                    "what": f"pipeline {job.pipeline}",
                    "why": f"{type(error).__name__} at {place_of(error)}",
                    "fix": f"`dicom-node pipelines check {job.pipeline}`, then "
                    f"`dicom-node retry {job.id}`",
                },
                log,
            )
            return True
        with self._database.write() as session:
            kept = jobs.finish(session, job.id, self._settings.name, result, self._clock.now())
        log.info("job_finished" if kept else "job_lost", state=str(result.state))
        return True

    def _evaluate(self, job: Job, study_uid: str) -> JobResult:
        job_input = self._input(job, study_uid)
        outcome = self._executor.run(job.pipeline, job_input)
        spec = self._executor.spec(job.pipeline)
        sources = [read_header(file) for file in job_input.files]
        report = build_report(outcome.findings, sources, outcome.pictures, spec)
        folder = self._reports_dir / study_uid
        made = []
        for item in report.objects:
            path = folder / f"{item.sop_instance_uid}.dcm"
            digest = write_durably(path, item.encoded)
            made.append(
                NewReport(
                    item.kind,
                    item.sop_class_uid,
                    item.sop_instance_uid,
                    str(path.relative_to(self._reports_dir)),
                    digest,
                )
            )
        state = JobState.DONE if outcome.findings.evaluated else JobState.NOT_EVALUATED
        return JobResult(state, made, rows_of(outcome.findings), outcome.record)

    def _input(self, job: Job, study_uid: str) -> JobInput:
        """Return the job's images as the index knows them.

        Raises:
            PipelineError: Not all of them are in the index any more.
        """
        with self._database.read() as session:
            rows = jobs.instances_of(session, job)
        missing = len(set(job.inputs)) - len(rows)
        if missing or not rows:
            raise PipelineError(
                f"job {job.id}",
                f"{missing} of its {len(job.inputs)} images are not in the index",
                "send the study again",
            )
        rejection = None
        if job.rejection:
            rejection = Rejection(Code(**job.rejection["reason"]), job.rejection["text"])
        return JobInput(
            files=tuple(self._spool_dir / row.path for row in rows),
            facts=tuple(index.facts_of_row(row, study_uid) for row in rows),
            rejection=rejection,
            # of the first attempt: made again, the objects must be the same bytes
            started=job.started_at or job.queued_at,
        )

    def _renew(self, job_id: int) -> Callable[[], bool]:
        def renew() -> bool:
            with self._database.write() as session:
                return jobs.renew(
                    session,
                    job_id,
                    self._settings.name,
                    self._clock.now() + self._settings.lease,
                )

        return renew

    def _fail(self, job: Job, error: dict[str, str], log: Log) -> None:
        now = self._clock.now()
        again = job.attempts < self._settings.attempts
        retry_at = now + self._settings.retry_wait * job.attempts if again else None
        with self._database.write() as session:
            jobs.fail(session, job.id, self._settings.name, error, now, retry_at)
        log.error("job_attempt_failed" if again else "job_failed", **error)


class _Lease:
    """Renews a claim in the background while the job runs."""

    def __init__(self, renew: Callable[[], bool], every: timedelta, log: Log) -> None:
        self._renew = renew
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
        while not self._done.wait(self._every):
            try:
                if not self._renew():
                    self._log.warning("job_claim_lost", why="another worker has it")
                    return
            except SQLAlchemyError as error:
                # the job goes on: the next turn may succeed before the claim runs out
                self._log.warning("job_claim_not_renewed", **error_facts(error))
