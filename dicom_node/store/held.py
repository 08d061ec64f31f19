"""Studies that wait for a person: held, released, discarded; each with its reason."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.errors import NodeError, TransitionError
from dicom_node.model.states import HoldReason, JobState
from dicom_node.store import audit, withheld
from dicom_node.store.tables import Instance, Job, Study


def hold(
    session: Session, study: Study, reason: HoldReason, text: str, now: datetime, **data: Any
) -> None:
    """Let a study wait for a person: nothing of it is routed or run until it is released.

    One that is held already keeps its first reason, unless its patient is in doubt.

    Args:
        text: Why, for a person; never a patient's data.
        data: Further details for the audit trail.
    """
    if (study.held_reason, study.held_text) == (reason, text):
        return  # each of many images says the same
    if study.held_at is None or reason is HoldReason.CHANGED_PATIENT:
        study.held_at = study.held_at or now
        study.held_reason = reason
        study.held_text = text
    audit.record(
        session,
        now,
        "study_held",
        study_uid=study.study_instance_uid,
        reason=str(reason),
        text=text,
        **data,
    )


def release(session: Session, study: Study, now: datetime, by: str, why: str) -> list[int]:
    """Let a held study go on with the images that are there; those that are not are forgotten.

    Of a quarantined one the jobs that failed are queued again; what was kept back of the others
    is sent.

    Args:
        by: Who says so.
        why: The person's reason.

    Returns:
        The jobs that are queued again.

    Raises:
        NodeError: It is not held, or none of its images is there.
    """
    if study.held_reason == HoldReason.IMAGES_PURGED:
        _forget_purged(session, study)
    reason = _no_more_held(session, study, "study_released", now, by, why)
    again = []
    if reason == HoldReason.QUARANTINED:
        for job in _current_jobs(session, study, JobState.FAILED):
            job.state = JobState.QUEUED
            job.attempts, job.not_before, job.error = 0, None, None
            job.queued_at = now
            again.append(job.id)
    withheld.deliver_withheld(session, study, now)
    return again


def discard(session: Session, study: Study, now: datetime, by: str, why: str) -> int:
    """Give up a study: its waiting jobs do not run, what waits to be sent is withdrawn.

    Its images stay until retention purges them; what was sent stays where it is.

    Returns:
        How many jobs and deliveries were given up.

    Raises:
        TransitionError: A worker runs a job of it at this moment.
    """
    if _current_jobs(session, study, JobState.RUNNING):
        raise TransitionError(
            f"study {study.study_instance_uid}", "a job of it is running", "wait for it to end"
        )
    if study.held_at is not None:
        _no_more_held(session, study, "study_released", now, by, why)
    given_up = 0
    for job in session.scalars(select(Job).where(Job.study_id == study.id)).all():
        # nothing of it is wanted: what failed would keep its images for ever
        given_up += withheld.withdraw(job, in_part=True)
        if job.state in (JobState.QUEUED, JobState.FAILED):
            given_up += job.state == JobState.QUEUED
            job.state = JobState.FAILED
            job.finished_at = job.finished_at or now
            job.notice = None
        # its own successor: nothing of it is sent or counted as failed any more
        job.superseded_by = job.superseded_by or job.id
    study.routed_revision = study.revision
    study.unrouted_reason = "discarded by a person; `dicom-node retry --study` takes it up again"
    audit.record(
        session,
        now,
        "study_discarded",
        study_uid=study.study_instance_uid,
        by=by,
        reason=why,
        given_up=given_up,
    )
    return given_up


def find(session: Session, study_uid: str) -> Study:
    """Return a study by its Study Instance UID.

    Raises:
        NodeError: It is not in the index.
    """
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_uid))
    if study is None:
        raise NodeError(f"study {study_uid}", "it is not in the index", "see `dicom-node status`")
    return study


def _forget_purged(session: Session, study: Study) -> None:
    here = select(Instance.id).where(Instance.study_id == study.id, Instance.purged_at.is_(None))
    if session.scalar(here.limit(1)) is None:
        raise NodeError(
            f"study {study.study_instance_uid}", "none of its images is there", "send it again"
        )
    session.execute(
        delete(Instance).where(Instance.study_id == study.id, Instance.purged_at.is_not(None))
    )


def _no_more_held(
    session: Session, study: Study, kind: str, now: datetime, by: str, why: str
) -> str | None:
    if study.held_at is None:
        raise NodeError(
            f"study {study.study_instance_uid}", "it is not held", "see `dicom-node held`"
        )
    reason = study.held_reason
    study.held_at = study.held_reason = study.held_text = None
    study.lost_workers = 0
    audit.record(
        session,
        now,
        kind,
        study_uid=study.study_instance_uid,
        held_for=reason,
        by=by,
        reason=why,
    )
    return reason


def _current_jobs(session: Session, study: Study, state: JobState) -> list[Job]:
    rows = session.scalars(
        select(Job)
        .where(Job.study_id == study.id, Job.state == state, Job.superseded_by.is_(None))
        .order_by(Job.id)
    )
    return list(rows)
