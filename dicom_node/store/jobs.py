"""The queue of jobs: enqueue, claim, renew, finish, fail; a lost worker's job returns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, selectinload

from dicom_node.errors import TransitionError
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store import audit
from dicom_node.store.tables import Delivery, FindingRow, Instance, Job, Report, Study


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as routing decided it."""

    pipeline: str
    version: str
    weights_sha256: str
    inputs: Sequence[str]
    peers: Sequence[str]
    reason: str
    rejection: Mapping[str, Any] | None = None

    @property
    def input_key(self) -> str:
        parts = (
            self.pipeline,
            self.version,
            self.weights_sha256,
            "" if self.rejection is None else "rejected",
            *sorted(self.inputs),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NewReport:
    """An object made from a job's findings, already durable at `path`."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job leaves behind."""

    state: JobState
    reports: Sequence[NewReport]
    findings: Sequence[tuple[str, Mapping[str, Any]]]
    run_record: Mapping[str, Any] = field(default_factory=dict)


def enqueue(session: Session, study: Study, new: NewJob, now: datetime) -> Job | None:
    """Queue a job unless the same pipeline has the same images already; returns it if new.

    A route that was added since may name more peers: those get the existing reports too. A job
    that still waits takes the images as they are now: a late image gives the radiologist one
    report, not an outdated one before it.
    """
    known = session.scalar(
        select(Job).where(
            Job.study_id == study.id,
            Job.pipeline == new.pipeline,
            Job.input_key == new.input_key,
        )
    )
    if known is not None:
        _add_peers(session, known, new.peers, now)
        return None
    waiting = session.scalar(
        select(Job)
        .where(
            Job.study_id == study.id,
            Job.pipeline == new.pipeline,
            Job.state == JobState.QUEUED,
            Job.attempts == 0,
        )
        .with_for_update(skip_locked=True)
    )
    job = waiting or Job(study=study, pipeline=new.pipeline, state=JobState.QUEUED, attempts=0)
    job.version = new.version
    job.input_key = new.input_key
    job.inputs = list(new.inputs)
    job.peers = list(new.peers)
    job.reason = new.reason
    job.rejection = dict(new.rejection) if new.rejection else None
    job.queued_at = now
    session.add(job)
    session.flush()
    audit.record(
        session,
        now,
        "job_queued" if waiting is None else "job_images_changed",
        study_uid=study.study_instance_uid,
        job_id=job.id,
        pipeline=new.pipeline,
        reason=new.reason,
        images=len(new.inputs),
    )
    return job if waiting is None else None


def claim(session: Session, worker: str, now: datetime, lease: timedelta) -> Job | None:
    """Take the oldest job that is due; the claim must be renewed within the lease.

    A study that a late image has reopened must settle and be routed again first.
    `started_at` is that of the first attempt: every attempt's objects bear the same time.
    """
    job = session.scalar(
        select(Job)
        .join(Job.study)
        .where(
            Job.state == JobState.QUEUED,
            or_(Job.not_before.is_(None), Job.not_before <= now),
            Study.state == StudyState.SETTLED,
            Study.routed_revision == Study.revision,
        )
        .order_by(Job.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
    )
    if job is None:
        return None
    job.state = JobState.RUNNING
    job.worker = worker
    job.lease_until = now + lease
    job.started_at = job.started_at or now
    job.attempts += 1
    return job


def renew(session: Session, job_id: int, worker: str, until: datetime) -> bool:
    """Extend a claim; False when the job is no longer this worker's."""
    job = session.get(Job, job_id)
    if job is None or job.state != JobState.RUNNING or job.worker != worker:
        return False
    job.lease_until = until
    return True


def instances_of(session: Session, job: Job) -> list[Instance]:
    """Return the job's input instances, in the order that routing chose."""
    rows = session.scalars(
        select(Instance)
        .where(Instance.study_id == job.study_id)
        .options(selectinload(Instance.series))
    )
    by_uid = {row.sop_instance_uid: row for row in rows}
    return [by_uid[uid] for uid in job.inputs if uid in by_uid]


def finish(session: Session, job_id: int, worker: str, result: JobResult, now: datetime) -> bool:
    """Record a job's result and put its objects into the outbox, in one transaction.

    Returns:
        False when the claim was lost meanwhile: then nothing is recorded.
    """
    job = session.get(Job, job_id)
    if job is None or job.state != JobState.RUNNING or job.worker != worker:
        return False
    job.state = result.state
    job.finished_at = now
    job.lease_until = None
    job.error = None
    job.run_record = dict(result.run_record)
    for old in list(job.findings):
        session.delete(old)
    for kind, data in result.findings:
        session.add(FindingRow(job_id=job.id, kind=kind, data=dict(data)))
    for new in result.reports:
        _put_report(session, job, new, now)
    audit.record(
        session,
        now,
        "job_finished",
        study_uid=job.study.study_instance_uid,
        job_id=job.id,
        pipeline=job.pipeline,
        version=job.version,
        state=str(result.state),
        reports=[report.sop_instance_uid for report in result.reports],
    )
    return True


def fail(
    session: Session,
    job_id: int,
    worker: str,
    error: Mapping[str, str],
    now: datetime,
    retry_at: datetime | None,
) -> None:
    """Record a failed attempt: queued again for `retry_at`, or failed for good when None."""
    job = session.get(Job, job_id)
    if job is None or job.state != JobState.RUNNING or job.worker != worker:
        return
    job.state = JobState.QUEUED if retry_at else JobState.FAILED
    job.not_before = retry_at
    job.finished_at = None if retry_at else now
    job.lease_until = None
    job.worker = None
    job.error = dict(error)
    audit.record(
        session,
        now,
        "job_attempt_failed" if retry_at else "job_failed",
        study_uid=job.study.study_instance_uid,
        job_id=job.id,
        pipeline=job.pipeline,
        attempt=job.attempts,
        **dict(error),
    )


def requeue_lost(
    session: Session, now: datetime, most_attempts: int, worker: str | None = None
) -> list[int]:
    """Take back running jobs whose lease has run out, or that `worker` held before it died.

    A job that has cost `most_attempts` workers is failed: it must not take down every worker
    for ever.
    """
    lost = Job.worker == worker if worker else Job.lease_until < now
    jobs = session.scalars(
        select(Job).where(Job.state == JobState.RUNNING, lost).with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        again = job.attempts < most_attempts
        held_by = job.worker
        job.state = JobState.QUEUED if again else JobState.FAILED
        job.worker = None
        job.lease_until = None
        if not again:
            job.finished_at = now
            job.error = {
                "what": f"job {job.id}",
                "why": f"its worker died {job.attempts} times while running it",
                "fix": f"see the worker's log, then `dicom-node retry {job.id}`",
            }
        audit.record(
            session,
            now,
            "job_requeued" if again else "job_failed",
            study_uid=job.study.study_instance_uid,
            job_id=job.id,
            pipeline=job.pipeline,
            worker=held_by,
            attempt=job.attempts,
            **({} if again else job.error or {}),
        )
    return [job.id for job in jobs]


def retry(session: Session, job: Job, now: datetime) -> None:
    """Queue a finished or failed job again, with a fresh count of attempts.

    Raises:
        TransitionError: A worker runs it at this moment.
    """
    if job.state == JobState.RUNNING:
        raise TransitionError(
            f"job {job.id}",
            f"it is running ({job.worker})",
            f"wait for it; if that worker died, it is taken back by {job.lease_until:%H:%M:%S} UTC",
        )
    job.state = JobState.QUEUED
    job.attempts = 0
    job.not_before = None
    job.queued_at = now
    job.error = None
    audit.record(session, now, "job_retried", study_uid=job.study.study_instance_uid, job_id=job.id)


def _put_report(session: Session, job: Job, new: NewReport, now: datetime) -> None:
    report = session.scalar(select(Report).where(Report.sop_instance_uid == new.sop_instance_uid))
    if report is None:
        report = Report(job_id=job.id, sop_instance_uid=new.sop_instance_uid, created_at=now)
        session.add(report)
    report.kind = new.kind
    report.sop_class_uid = new.sop_class_uid
    report.path = new.path
    report.sha256 = new.sha256
    session.flush()
    _deliver(session, report, job.peers, now)


def _deliver(session: Session, report: Report, peers: Sequence[str], now: datetime) -> None:
    known = set(session.scalars(select(Delivery.peer).where(Delivery.report_id == report.id)))
    for peer in peers:
        if peer not in known:
            session.add(
                Delivery(
                    report_id=report.id,
                    peer=peer,
                    state=DeliveryState.PENDING,
                    attempts=0,
                    queued_at=now,
                    next_attempt_at=now,
                )
            )


def _add_peers(session: Session, job: Job, peers: Sequence[str], now: datetime) -> None:
    more = [peer for peer in peers if peer not in job.peers]
    if not more:
        return
    job.peers = [*job.peers, *more]
    for report in job.reports:
        _deliver(session, report, more, now)
    audit.record(
        session,
        now,
        "job_peers_added",
        study_uid=job.study.study_instance_uid,
        job_id=job.id,
        peers=more,
    )
