"""The word that a job has failed: which are due, and their objects into the outbox."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.model.states import JobState
from dicom_node.store import audit
from dicom_node.store.jobs import NewReport, put_report
from dicom_node.store.tables import Job


def due(session: Session, leave: Collection[int] = ()) -> Job | None:
    """Return a failed job whose failure is to be reported.

    Args:
        leave: Jobs that are left for later.
    """
    query = select(Job).where(Job.notice == "due", Job.state == JobState.FAILED)
    return session.scalar(query.where(Job.id.not_in(leave)).order_by(Job.id).limit(1))


def put(
    session: Session, job_id: int, reports: Sequence[NewReport], now: datetime, why_not: str = ""
) -> None:
    """Put the objects that say "processing failed" into the outbox.

    Args:
        why_not: They could not be made.
    """
    job = session.get(Job, job_id)
    if job is None or job.notice != "due":
        return
    job.notice = "failed" if why_not else "made"
    for new in reports:
        put_report(session, job, new, now)
    audit.record(
        session,
        now,
        "job_failure_not_reported" if why_not else "job_failure_reported",
        study_uid=job.study.study_instance_uid,
        job_id=job.id,
        pipeline=job.pipeline,
        reports=[report.sop_instance_uid for report in reports],
        **({"why": why_not} if why_not else {}),
    )
