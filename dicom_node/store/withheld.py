"""Which results go out: those on a study as it is now, never an outdated one after or before it.

A result on fewer images than the study has by now is made, and kept back: either routing finds
that the late images change nothing of it, and it goes out, or a job on more images takes its
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from dicom_node.model.states import DeliveryState, HoldReason, JobState, StudyState
from dicom_node.store import audit
from dicom_node.store.tables import Delivery, Job, Report, Study

_NOTHING_GOES_OUT: Final = (HoldReason.CHANGED_PATIENT, HoldReason.BY_PERSON)
_ARRIVED: Final = (DeliveryState.SENT, DeliveryState.COMMITTED)
_WAITING: Final = (DeliveryState.PENDING, DeliveryState.FAILED)


def may_go_out(job: Job) -> bool:
    """Tell whether a job's result is on its study as routing has last seen it."""
    study = job.study
    return (
        job.superseded_by is None
        and study.state == StudyState.SETTLED
        and study.routed_revision == study.revision
        and study.held_reason not in _NOTHING_GOES_OUT
    )


def is_current() -> ColumnElement[bool]:
    """The same of a study, as a condition of a query."""
    return and_(
        Study.state == StudyState.SETTLED,
        Study.routed_revision == Study.revision,
        or_(Study.held_reason.is_(None), Study.held_reason.not_in(_NOTHING_GOES_OUT)),
    )


def deliver(session: Session, report: Report, peers: Sequence[str], now: datetime) -> int:
    """Put a report into the outbox for the peers that have no delivery of it; returns how many."""
    known = set(session.scalars(select(Delivery.peer).where(Delivery.report_id == report.id)))
    new = [peer for peer in dict.fromkeys(peers) if peer not in known]
    for peer in new:
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
    return len(new)


def deliver_withheld(session: Session, study: Study, now: datetime) -> None:
    """Let out what was kept back, now that routing has seen the study as it is."""
    jobs = session.scalars(select(Job).where(Job.study_id == study.id).order_by(Job.id)).all()
    for job in jobs:
        reported = job.state in (JobState.DONE, JobState.NOT_EVALUATED) or job.notice == "made"
        if not reported or not may_go_out(job):
            continue
        number = sum(
            deliver(session, report, job.peers, now)
            for report in job.reports
            if report.purged_at is None
        )
        if number:
            audit.record(
                session,
                now,
                "report_let_out",
                study_uid=study.study_instance_uid,
                job_id=job.id,
                deliveries=number,
            )


def supersede(session: Session, successor: Job, now: datetime) -> None:
    """Let a job take the place of all others of its pipeline on its study.

    What of theirs waits to be sent is withdrawn, except where a part of it has arrived: a peer
    gets an SR and its picture, or neither.
    """
    others = session.scalars(
        select(Job).where(
            Job.study_id == successor.study_id,
            Job.pipeline == successor.pipeline,
            Job.id != successor.id,
            Job.superseded_by.is_(None),
        )
    )
    for job in others:
        job.superseded_by = successor.id
        audit.record(
            session,
            now,
            "job_superseded",
            study_uid=successor.study.study_instance_uid,
            job_id=job.id,
            by=successor.id,
            withdrawn=withdraw(job),
        )


def withdraw(job: Job, *, in_part: bool = False) -> int:
    """Take what waits of a job out of the outbox; returns how many deliveries.

    Args:
        in_part: Also where the peer has a part of it.
    """
    rows = [row for report in job.reports for row in report.deliveries]
    has_some = {row.peer for row in rows if row.state in _ARRIVED and not in_part}
    out = [row for row in rows if row.state in _WAITING and row.peer not in has_some]
    for row in out:
        row.state = DeliveryState.SUPERSEDED
    return len(out)


def reinstate(session: Session, job: Job, now: datetime) -> None:
    """A superseded job is wanted again, as when a newer version was taken back."""
    job.superseded_by = None
    if job.state == JobState.FAILED:
        job.state = JobState.QUEUED
        job.attempts, job.not_before, job.error, job.queued_at = 0, None, None, now
    supersede(session, job, now)
    for report in job.reports:
        for row in report.deliveries:
            if row.state == DeliveryState.SUPERSEDED:
                row.state = DeliveryState.PENDING
                row.queued_at = row.next_attempt_at = now
