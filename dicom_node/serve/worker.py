"""The worker: takes jobs, runs their pipeline warm, makes the report, fills the outbox."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from dicom_node.clock import Clock
from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.files import read_header
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.logs import error_facts
from dicom_node.model.codes import Code
from dicom_node.model.findings import Algorithm
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.plain import rows_of
from dicom_node.model.predecessor import Predecessor
from dicom_node.model.states import JobState
from dicom_node.model.targets import Rejection
from dicom_node.results import ReportObject, build_report
from dicom_node.serve.failures import DISK, OUT_OF_MEMORY, error_of, failure_findings
from dicom_node.serve.lease import Lease, Log
from dicom_node.serve.limits import lift_memory_limit, loss_of
from dicom_node.store import index, jobs, losses, notices
from dicom_node.store.database import Database
from dicom_node.store.files import write_durably
from dicom_node.store.jobs import JobResult, NewReport
from dicom_node.store.losses import LossPolicy
from dicom_node.store.tables import Job

_log = structlog.get_logger()

_DISK_WAITS: Final = 6
"""How many times the wait for another attempt the disk gets to be seen to."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker claims and retries.

    Attributes:
        time_limit: Of a job, where `time_limits` has none for its pipeline.
        quarantine_after: A study whose jobs took down so many workers is held; 0: never.
        report_failures: A job that fails for good sends a report that says so.
    """

    name: str
    lease: timedelta
    attempts: int
    retry_wait: timedelta
    time_limit: timedelta = timedelta(minutes=10)
    time_limits: Mapping[str, timedelta] = field(default_factory=dict)
    quarantine_after: int = 0
    report_failures: bool = False

    def limit_of(self, pipeline: str) -> timedelta:
        return self.time_limits.get(pipeline, self.time_limit)

    @property
    def policy(self) -> LossPolicy:
        return LossPolicy(
            self.attempts, self.retry_wait, self.quarantine_after, self.report_failures
        )


class Executor(Protocol):
    """Runs pipelines, here or elsewhere."""

    def spec(self, name: str) -> PipelineSpec: ...

    def algorithm(self, name: str) -> Algorithm: ...

    def run(self, name: str, job: JobInput) -> Outcome: ...


class Worker:
    """Runs jobs one after another.

    A job's objects are on disk before the one transaction that marks it done and fills the
    outbox; killed in between, the job is run again and makes the same objects.

    Args:
        limited: Context in which a job runs: when it takes longer, the process is killed.
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
    ) -> None:
        self._settings = settings
        self._database = database
        self._executor = executor
        self._spool_dir = spool_dir
        self._reports_dir = reports_dir
        self._clock = clock
        self._limited = limited
        self._spent = False

    def take_back(self, status: int | None = None) -> None:
        """Take back what a worker of this name held when it died.

        Args:
            status: How it ended, as `subprocess` tells it; None: not known.
        """
        settings = self._settings
        with self._database.write() as session:
            lost = losses.requeue_lost(
                session,
                self._clock.now(),
                settings.policy,
                worker=settings.name,
                loss=lambda job: loss_of(status, settings.limit_of(job.pipeline)),
            )
        if lost:
            _log.warning("jobs_taken_back", job_ids=lost, status=status)

    def run(self, stop: threading.Event, idle: timedelta) -> None:
        """Run jobs until told to stop.

        Raises:
            NodeError: A job used up the memory: what it left behind goes with the process.
        """
        while not stop.is_set():
            if not self.run_one():
                stop.wait(idle.total_seconds())
            if self._spent:
                raise NodeError(
                    "worker", "a job used up its memory", "nothing: it is started again, empty"
                )

    def run_one(self) -> bool:
        """Run one job, or report one that failed; False when none is due."""
        if self._report_failure():
            return True
        with self._database.write() as session:
            job = jobs.claim(session, self._settings.name, self._clock.now(), self._settings.lease)
            if job is None:
                return False
            study_uid = job.study.study_instance_uid
        log = _log.bind(job_id=job.id, pipeline=job.pipeline, study_uid=study_uid)
        log.info("job_started", images=len(job.inputs), attempt=job.attempts)
        failure: dict[str, str] | None = None
        try:
            with (
                Lease(self._renew(job.id), self._settings.lease / 3, log),
                self._limited(self._settings.limit_of(job.pipeline)),
            ):
                result = self._evaluate(job, study_uid)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a pipeline may raise anything
            failure = error_of(error, job)
        if failure is not None:
            # outside of the handler: its error keeps the job's memory alive
            self._fail(job, failure, log)
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
        earlier = Predecessor.of_plain(job.replaces) if job.replaces else None
        report = build_report(outcome.findings, sources, outcome.pictures, spec, replaces=earlier)
        folder = self._reports_dir / study_uid
        made = [self._keep(item, folder) for item in report.objects]
        state = JobState.DONE if outcome.findings.evaluated else JobState.NOT_EVALUATED
        left_out = [asdict(item) for item in report.left_out]
        # of the pipeline that ran, which may be another than the one that routing knew
        record = {**outcome.record, "version": outcome.findings.algorithm.version}
        return JobResult(state, made, rows_of(outcome.findings), record, left_out)

    def _keep(self, item: ReportObject, folder: Path) -> NewReport:
        """Write an object, and its other forms, to disk."""
        path = folder / f"{item.sop_instance_uid}.dcm"
        return NewReport(
            item.kind,
            item.sop_class_uid,
            item.sop_instance_uid,
            str(path.relative_to(self._reports_dir)),
            write_durably(path, item.encoded),
            str(item.dataset.SeriesInstanceUID),
            [self._keep(other, folder) for other in item.alternatives],
        )

    def _input(self, job: Job, study_uid: str) -> JobInput:
        """Return the job's images as the index knows them.

        Raises:
            PipelineError: Not all of them are in the index any more.
        """
        with self._database.read() as session:
            rows = jobs.instances_of(session, job)
        purged = sum(row.purged_at is not None for row in rows)
        if purged:
            raise PipelineError(
                f"job {job.id}",
                f"{purged} of its {len(job.inputs)} images were purged after they were finished",
                "send the study again",
            )
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
        settings = self._settings
        if error["reason"] == OUT_OF_MEMORY:
            self._spent = True
            lift_memory_limit()
        now = self._clock.now()
        blameless = error["reason"] == DISK
        again = blameless or job.attempts < settings.attempts
        wait = settings.retry_wait * (_DISK_WAITS if blameless else job.attempts)
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
            if failed is not None and self._spent:
                losses.blame(session, failed, error["why"], now, settings.quarantine_after)
        log.error("job_attempt_failed" if again else "job_failed", **error)

    def _report_failure(self) -> bool:
        """Make the report that a job has failed; False when there is none to make."""
        with self._database.read() as session:
            job = notices.due(session)
            study_uid = job.study.study_instance_uid if job else ""
        if job is None:
            return False
        log = _log.bind(job_id=job.id, pipeline=job.pipeline, study_uid=study_uid)
        made: list[NewReport] = []
        why_not = ""
        try:
            images = self._input(job, study_uid)
            spec = self._executor.spec(job.pipeline)
            algorithm = self._executor.algorithm(job.pipeline)
            findings = failure_findings(job, images, spec, algorithm)
            sources = [read_header(file) for file in images.files]
            # nothing but words: no picture is read by what may have crashed on it
            report = build_report(findings, sources, {}, spec.model_copy(update={"objects": []}))
            folder = self._reports_dir / study_uid
            made = [self._keep(item, folder) for item in report.objects]
        except Exception as error:  # noqa: BLE001 - told once, and not tried for ever
            facts = error_facts(error)
            why_not = facts.get("why") or f"{facts['error']} at {facts['where']}"
            log.error("job_failure_not_reported", **facts)
        with self._database.write() as session:
            notices.put(session, job.id, made, self._clock.now(), why_not)
        return True
