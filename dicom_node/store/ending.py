"""Jobs at their end: finished with their objects in the outbox, or failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.model.states import JobState
from dicom_node.store import audit, claiming, losses, withheld
from dicom_node.store.tables import FindingRow, Job, Report


@dataclass(frozen=True, slots=True)
class NewReport:
    """An object made from a job's findings, already durable at `path`.

    Attributes:
        host: Who holds it; None: it is in the folder that all hosts share.
    """

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    sha256: str
    series_instance_uid: str | None = None
    alternatives: Sequence[NewReport] = ()
    host: str | None = None


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


def finish(session: Session, job_id: int, worker: str, result: JobResult, now: datetime) -> bool:
    """Record a job's result and put its objects into the outbox, in one transaction.

    What is outdated by then, or may become so, is kept back (`store.withheld`).

    Returns:
        False when the claim was lost meanwhile: then nothing is recorded.
    """
    job = claiming.own(session, job_id, worker)
    if job is None:
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
    job = claiming.own(session, job_id, worker)
    if job is None:
        return None
    if job.superseded_by is not None:
        retry_at = None
    job.notice = "due" if report and not retry_at else None
    job.state = JobState.QUEUED if retry_at else JobState.FAILED
    job.not_before = retry_at
    job.finished_at = None if retry_at else now
    job.lease_until = None
    job.worker = None
    # what waits for a disk or a host may do so for days: told once
    told_before = retry_at is not None and not counts and job.error == dict(error)
    job.error = dict(error)
    if not told_before:
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


def stop(session: Session, job_id: int, worker: str, now: datetime) -> bool:
    """Record that a job was ended before it was done, as another has taken its place.

    Returns:
        False when the claim was lost meanwhile.
    """
    job = claiming.own(session, job_id, worker)
    if job is None:
        return False
    job.state = JobState.FAILED
    job.finished_at = now
    job.lease_until = None
    job.worker = None
    job.notice = None
    job.error = {
        "what": f"job {job.id}",
        "why": f"it was stopped: job {job.superseded_by} has taken its place",
        "fix": "nothing",
        "reason": "outdated",
    }
    audit.record(
        session,
        now,
        "job_stopped",
        study_uid=job.study.study_instance_uid,
        job_id=job.id,
        pipeline=job.pipeline,
        by=job.superseded_by,
    )
    return True


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
    report.host = new.host
    report.purged_at = None
    session.flush()
    if withheld.may_go_out(job):
        withheld.deliver(session, report, job.peers, now)


def _alternative(new: NewReport) -> dict[str, str]:
    return {
        "sop_class_uid": new.sop_class_uid,
        "sop_instance_uid": new.sop_instance_uid,
        "path": new.path,
        "sha256": new.sha256,
    }
