"""What a person decides about a study; the command line and the dashboard both call this.

Each decision is audited with who took it and why. None of the texts may hold patient data.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.errors import NodeError
from dicom_node.model.states import DeliveryState, HoldReason, JobState, StudyState
from dicom_node.store import audit, held, index, outbox
from dicom_node.store import jobs as queue
from dicom_node.store.tables import Delivery, Job, Report


def hold(session: Session, study_uid: str, now: datetime, by: str, why: str) -> str:
    """Put a study aside: nothing of it is routed, run or sent until a person releases it.

    Raises:
        NodeError: It is not in the index, or held already.
    """
    row = held.find(session, study_uid)
    if row.held_at is not None:
        raise NodeError(f"study {study_uid}", "it is held already", "release or discard it")
    held.hold(session, row, HoldReason.BY_PERSON, f"put aside by {by}: {why}", now, by=by)
    return f"held: study {study_uid}"


def release(session: Session, study_uid: str, now: datetime, by: str, why: str) -> list[str]:
    """Let a held study go on with the images that are there; returns what was done.

    Raises:
        NodeError: It is not in the index or not held, or none of its images is there.
    """
    again = held.release(session, held.find(session, study_uid), now, by, why)
    return [f"released: study {study_uid}", *(f"queued again: job {job}" for job in again)]


def discard(session: Session, study_uid: str, now: datetime, by: str, why: str) -> str:
    """Give up a study: what waits of it is neither run nor sent.

    Raises:
        NodeError: It is not in the index, or a worker runs a job of it.
    """
    number = held.discard(session, held.find(session, study_uid), now, by, why)
    return f"discarded: study {study_uid}; {number} jobs and deliveries given up"


def route_again(
    session: Session, study_uid: str, now: datetime, by: str = "", why: str = ""
) -> str:
    """Let routing decide on a study once more.

    Raises:
        NodeError: It is not in the index, still coming, or held.
    """
    row = held.find(session, study_uid)
    if row.state != StudyState.SETTLED:
        raise NodeError(
            f"study {study_uid}", "images of it still come", "it is routed when it has settled"
        )
    if row.held_at is not None:
        raise NodeError(
            f"study {study_uid}",
            f"it is held: {row.held_text}",
            f"`dicom-node release {study_uid}` or `dicom-node discard {study_uid}`",
        )
    index.route_again(session, row, now, by, why)
    return f"routing of study {study_uid}"


def rerun(
    session: Session, study_uid: str, now: datetime, by: str, why: str, pipeline: str | None = None
) -> list[str]:
    """Run a study's jobs again, those that are done, too; returns what is queued.

    Raises:
        NodeError: It is not in the index, or has no such job.
    """
    row = held.find(session, study_uid)
    query = select(Job).where(Job.study_id == row.id, Job.superseded_by.is_(None))
    if pipeline:
        query = query.where(Job.pipeline == pipeline)
    found = session.scalars(query.order_by(Job.id)).all()
    if not found:
        raise NodeError(
            f"study {study_uid}",
            f"it has no job of {pipeline}" if pipeline else "it has no job",
            f"`dicom-node retry --study {study_uid}` routes it again",
        )
    for job in found:
        if job.state != JobState.QUEUED:
            queue.retry(session, job, now, by=by, reason=why)
    return [f"queued again: job {job.id} ({job.pipeline})" for job in found]


def resend(
    session: Session, study_uid: str, now: datetime, by: str, why: str, peer: str | None = None
) -> list[str]:
    """Send a study's reports again, those that were sent, too; returns what is queued.

    Raises:
        NodeError: It is not in the index, or there is nothing to send.
    """
    row = held.find(session, study_uid)
    query = (
        select(Delivery)
        .join(Delivery.report)
        .join(Report.job)
        .where(Job.study_id == row.id, Delivery.state != DeliveryState.SUPERSEDED)
    )
    if peer:
        query = query.where(Delivery.peer == peer)
    found = session.scalars(query.order_by(Delivery.id)).all()
    there = [item for item in found if item.report.purged_at is None]
    if not there:
        raise NodeError(
            f"study {study_uid}",
            "its reports were purged" if found else "no report of it was queued",
            f"`dicom-node rerun {study_uid}` makes them again, if its images are there",
        )
    audit.record(session, now, "resend_asked", study_uid=study_uid, peer=peer, by=by, reason=why)
    for item in there:
        outbox.retry(session, item, now, by=by)
    return [
        f"queued again: {item.report.kind} of job {item.report.job_id} to {item.peer}"
        for item in there
    ]
