"""The queue of jobs: enqueue, claim, renew, finish, fail, retry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session, aliased, selectinload

from dicom_node.errors import TransitionError
from dicom_node.model.predecessor import Predecessor
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store import audit, losses, withheld
from dicom_node.store.tables import (
    FindingRow,
    Instance,
    Job,
    Report,
    Study,
    Suspect,
)


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
    series_instance_uid: str | None = None
    alternatives: Sequence[NewReport] = ()


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job leaves behind.

    Attributes:
        left_out: {"kind", "why"} of each object that its source images did not allow.
    """

    state: JobState
    reports: Sequence[NewReport]
    findings: Sequence[tuple[str, Mapping[str, Any]]]
    run_record: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[Mapping[str, str]] = ()


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
        if known.superseded_by is not None:
            withheld.reinstate(session, known, now)
        _add_peers(session, known, new.peers, now)
        return None
    waiting = session.scalar(
        select(Job)
        .where(
            Job.study_id == study.id,
            Job.pipeline == new.pipeline,
            Job.state == JobState.QUEUED,
            ~Job.reports.any(),  # a job that has reported keeps what it was about
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
    job.started_at = None
    job.attempts, job.not_before, job.error = 0, None, None
    session.add(job)
    session.flush()
    withheld.supersede(session, job, now)
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

    A study that a late image has reopened must settle and be routed again first. Jobs of one
    pipeline on one study run one after another, so that each knows what it replaces. A pipeline
    that is suspect (`store.losses`) has one worker at a time.
    `started_at` is that of the first attempt: every attempt's objects bear the same time.
    """
    before, other = aliased(Job), aliased(Job)
    busy_suspects = (
        select(other.pipeline)
        .join(Suspect, Suspect.pipeline == other.pipeline)
        .where(other.state == JobState.RUNNING)
    )
    job = session.scalar(
        select(Job)
        .join(Job.study)
        .where(
            Job.state == JobState.QUEUED,
            or_(Job.not_before.is_(None), Job.not_before <= now),
            ~exists().where(
                before.study_id == Job.study_id,
                before.pipeline == Job.pipeline,
                before.id < Job.id,
                before.state.in_((JobState.QUEUED, JobState.RUNNING)),
            ),
            Study.state == StudyState.SETTLED,
            Study.routed_revision == Study.revision,
            Study.held_at.is_(None),
            Job.pipeline.not_in(busy_suspects),
        )
        # one that is tried again waits behind those that came before its turn
        .order_by(func.coalesce(Job.not_before, Job.queued_at), Job.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
    )
    if job is None:
        return None
    job.state = JobState.RUNNING
    job.worker = worker
    job.lease_until = now + lease
    job.started_at = job.started_at or now
    if job.run_record is None:  # once it has finished, it makes the same objects for ever
        job.replaces = _earlier_report(session, job)
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

    What is outdated by then, or may become so, is kept back (`store.withheld`).

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
    job.notice = None
    losses.clear(session, job.pipeline)
    left_out = [dict(item) for item in result.left_out]
    more: dict[str, Any] = {"left_out": left_out} if left_out else {}
    job.run_record = {**result.run_record, **more}
    if job.replaces:
        more["replaces"] = job.replaces["documents"][0][1]
    for old in list(job.findings):
        session.delete(old)
    for kind, data in result.findings:
        session.add(FindingRow(job_id=job.id, kind=kind, data=dict(data)))
    for new in result.reports:
        put_report(session, job, new, now)
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
        **more,
    )
    return True


def fail(
    session: Session,
    job_id: int,
    worker: str,
    error: Mapping[str, str],
    now: datetime,
    retry_at: datetime | None,
    *,
    report: bool = False,
    counts: bool = True,
) -> Job | None:
    """Record a failed attempt: queued again for `retry_at`, or failed for good when None.

    Args:
        error: What, why and fix, and the reason in one word.
        report: One that fails for good is to be reported as such.
        counts: It is one of the attempts that the job has.

    Returns:
        The job; None when the claim was lost meanwhile.
    """
    job = session.get(Job, job_id)
    if job is None or job.state != JobState.RUNNING or job.worker != worker:
        return None
    if job.superseded_by is not None:
        retry_at = None
    job.notice = "due" if report and not retry_at else None
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
    job.attempts -= not counts
    return job


def retry(session: Session, job: Job, now: datetime, **told: str) -> None:
    """Queue a finished or failed job again, with a fresh count of attempts.

    Args:
        told: Who asked for it and why, for the audit trail.

    Raises:
        TransitionError: A worker runs it at this moment, another job has taken its place, or its
            study waits for a person.
    """
    uid = job.study.study_instance_uid
    if job.superseded_by is not None:
        raise TransitionError(
            f"job {job.id}",
            f"its result is outdated: job {job.superseded_by} has taken its place"
            if job.superseded_by != job.id
            else "its study was discarded",
            f"`dicom-node retry --study {uid}` routes the study as it is now",
        )
    if job.study.held_at is not None:
        raise TransitionError(
            f"job {job.id}",
            f"its study is held: {job.study.held_text}",
            f"`dicom-node release {uid}`, then try again",
        )
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
    job.notice = None
    audit.record(session, now, "job_retried", study_uid=uid, job_id=job.id, **told)


def _earlier_report(session: Session, job: Job) -> dict[str, Any] | None:
    """The last SR of the job's pipeline on its study that a peer may have, for the new one."""
    reports = session.scalars(
        select(Report)
        .join(Report.job)
        .where(
            Job.study_id == job.study_id,
            Job.pipeline == job.pipeline,
            Report.kind == "SR",
            Report.series_instance_uid.is_not(None),
        )
        .order_by(Report.id.desc())
    )
    report = next((report for report in reports if _may_have_arrived(report)), None)
    if report is None or report.series_instance_uid is None:
        return None
    images, earlier = set(job.inputs), set(report.job.inputs)
    forms = [
        (item["sop_class_uid"], item["sop_instance_uid"]) for item in report.alternatives or ()
    ]
    record = report.job.run_record or {}
    return Predecessor(
        documents=((report.sop_class_uid, report.sop_instance_uid), *forms),
        series_instance_uid=report.series_instance_uid,
        version=str(record.get("version") or report.job.version),
        weights_sha256=str(record.get("weights_sha256") or ""),
        more_images=len(images - earlier),
        fewer_images=len(earlier - images),
    ).as_plain()


def _may_have_arrived(report: Report) -> bool:
    """False for one that was kept back, or withdrawn before it was sent."""
    states = {delivery.state for delivery in report.deliveries}
    return not report.job.peers or bool(states - {DeliveryState.SUPERSEDED})


def _alternative(new: NewReport) -> dict[str, str]:
    return {
        "sop_class_uid": new.sop_class_uid,
        "sop_instance_uid": new.sop_instance_uid,
        "path": new.path,
        "sha256": new.sha256,
    }


def put_report(session: Session, job: Job, new: NewReport, now: datetime) -> None:
    """Record an object of a job, and put it into the outbox if it may go out."""
    report = session.scalar(select(Report).where(Report.sop_instance_uid == new.sop_instance_uid))
    if report is None:
        report = Report(job_id=job.id, sop_instance_uid=new.sop_instance_uid, created_at=now)
        session.add(report)
    report.kind = new.kind
    report.sop_class_uid = new.sop_class_uid
    report.series_instance_uid = new.series_instance_uid
    report.alternatives = [_alternative(other) for other in new.alternatives] or None
    report.path = new.path
    report.sha256 = new.sha256
    report.purged_at = None
    session.flush()
    if withheld.may_go_out(job):
        withheld.deliver(session, report, job.peers, now)


def _add_peers(session: Session, job: Job, peers: Sequence[str], now: datetime) -> None:
    more = [peer for peer in peers if peer not in job.peers]
    if not more:
        return
    job.peers = [*job.peers, *more]
    for report in job.reports:
        if report.purged_at is None:
            withheld.deliver(session, report, more, now)
    audit.record(
        session,
        now,
        "job_peers_added",
        study_uid=job.study.study_instance_uid,
        job_id=job.id,
        peers=more,
    )
