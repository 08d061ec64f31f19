"""Jobs that take down their worker: taken back, tried a few times, then failed with the reason.

A pipeline that took down a worker is suspect until it finishes a job: it gets one worker at a
time, so that it cannot hold all of them. A study whose jobs took down too many is quarantined.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from dicom_node.model.states import HoldReason, JobState
from dicom_node.store import audit, claiming, held
from dicom_node.store.tables import Job, Suspect

_OUTSIDE_WAITS: Final = 2
"""How many times the wait for another attempt something outside of the node gets to come back."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How a job's worker was lost.

    Attributes:
        reason: In one word, for scripts: "time_limit", "crashed", "killed", "lost".
        why: For a person.
        blamed: It was the job's own doing; False: perhaps somebody stopped the machine.
        counts: It is one of the attempts that the job has; False: it cannot have been its doing.
        fix: What a person does about it; "": the worker's log tells more.
    """

    reason: str
    why: str
    blamed: bool
    counts: bool = True
    fix: str = ""


@dataclass(frozen=True, slots=True)
class LossPolicy:
    """What follows when a job loses its worker.

    Attributes:
        attempts: Tries of a job that took down its worker; one more when nobody knows.
        retry_wait: Before the second try; longer before each further one.
        quarantine_after: A study whose jobs took down so many workers is held; 0: never.
        report_failures: A failed job is to be reported.
    """

    attempts: int
    retry_wait: timedelta = timedelta(0)
    quarantine_after: int = 0
    report_failures: bool = False


def requeue_lost(
    session: Session,
    now: datetime,
    policy: LossPolicy,
    *,
    worker: str | None = None,
    loss: Callable[[Job], Loss] | None = None,
    alive: Collection[str] = (),
    patience: timedelta = timedelta(0),
    besides: Collection[int] = (),
) -> list[int]:
    """Take back running jobs whose lease has run out, or that `worker` held before it died.

    Args:
        loss: How the worker was lost, if that is known.
        alive: Workers whose process is there: they have `patience` beyond their lease.
        besides: Jobs that are known to run.

    Returns:
        The ids of the jobs that were taken back or failed.
    """
    late = or_(
        Job.lease_until < now - patience,
        Job.worker.not_in(list(alive)) & (Job.lease_until < now),
    )
    jobs = session.scalars(
        select(Job)
        .where(
            Job.state == JobState.RUNNING,
            Job.worker == worker if worker else late,
            Job.id.not_in(list(besides)),
        )
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        _take_back(session, job, loss(job) if loss else None, now, policy)
    return [job.id for job in jobs]


def lose(
    session: Session, job_id: int, worker: str, loss: Loss, now: datetime, policy: LossPolicy
) -> bool:
    """Take back a job that `worker` has, when what ran it was lost and the worker was not.

    Returns:
        False when the claim was lost meanwhile.
    """
    job = claiming.own(session, job_id, worker)
    if job is None:
        return False
    _take_back(session, job, loss, now, policy)
    return True


def _take_back(
    session: Session, job: Job, loss: Loss | None, now: datetime, policy: LossPolicy
) -> None:
    loss = loss or Loss("lost", "its worker died while running it", blamed=False)
    has_tries = not loss.counts or job.attempts < policy.attempts + (not loss.blamed)
    again = has_tries and job.superseded_by is None
    waits = policy.retry_wait * (job.attempts if loss.blamed else _OUTSIDE_WAITS)
    held_by = job.worker
    job.state = JobState.QUEUED if again else JobState.FAILED
    job.worker = None
    job.lease_until = None
    job.not_before = now + waits if again and (loss.blamed or not loss.counts) else None
    tries = f" (in each of {job.attempts} tries)" if job.attempts > 1 else ""
    job.error = {
        "what": f"job {job.id}",
        "why": f"{loss.why}{tries if not again else ''}",
        "fix": loss.fix or f"see the worker's log, then `dicom-node retry {job.id}`",
        "reason": loss.reason,
    }
    if not again:
        job.finished_at = now
        job.notice = "due" if policy.report_failures else None
    audit.record(
        session,
        now,
        "job_requeued" if again else "job_failed",
        study_uid=job.study.study_instance_uid,
        job_id=job.id,
        pipeline=job.pipeline,
        worker=held_by,
        attempt=job.attempts,
        **job.error,
    )
    job.attempts -= not loss.counts
    if loss.blamed:
        blame(session, job, loss.why, now, policy.quarantine_after)


def blame(session: Session, job: Job, why: str, now: datetime, quarantine_after: int) -> None:
    """Note that a job took down its worker: against its pipeline and against its study."""
    suspect = session.get(Suspect, job.pipeline) or Suspect(pipeline=job.pipeline, since=now)
    suspect.why = why
    session.add(suspect)
    study = job.study
    study.lost_workers += 1
    if quarantine_after and study.lost_workers >= quarantine_after and study.held_at is None:
        held.hold(
            session,
            study,
            HoldReason.QUARANTINED,
            f"its jobs took down {study.lost_workers} workers, the last one: {why}",
            now,
            job_id=job.id,
        )


def clear(session: Session, pipeline: str) -> None:
    """A pipeline has finished a job: it is not suspect any more."""
    session.execute(delete(Suspect).where(Suspect.pipeline == pipeline))
