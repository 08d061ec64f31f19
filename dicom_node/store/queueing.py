"""Jobs on their way into the queue: new ones, and old ones that are run again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.errors import TransitionError
from dicom_node.model.priority import Priority
from dicom_node.model.states import JobState
from dicom_node.store import audit, withheld
from dicom_node.store.tables import Job, Study


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as routing decided it; `sender` is the calling AE title of its first image."""

    pipeline: str
    version: str
    weights_sha256: str
    inputs: Sequence[str]
    peers: Sequence[str]
    reason: str
    rejection: Mapping[str, Any] | None = None
    priority: int = Priority.ROUTINE
    sender: str = ""

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
    job.priority = new.priority
    job.sender = new.sender
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
