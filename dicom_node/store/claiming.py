"""Which waiting job comes next, and whose it is while it runs.

The order: priority first; then the sender whose last turn is longest ago, so that one that
forwards hundreds of studies starves no other; then age.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session, aliased, selectinload

from dicom_node.model.predecessor import Predecessor
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store import postgres
from dicom_node.store.inference_tables import PipelineTest, SenderTurn
from dicom_node.store.tables import Instance, Job, Report, Study, Suspect


def claim_batch(
    session: Session,
    worker: str,
    now: datetime,
    lease: timedelta,
    most_of: Callable[[str], int],
    workers: int = 1,
    leave: Collection[str] = (),
) -> list[Job]:
    """Take the next job, and with it others of its pipeline that would come next.

    Nobody waits for a batch to fill, and no worker takes more than its share of what waits. A
    job that was tried before runs alone: if it took down its worker, it is not to take others
    with it. So does any job of a suspect pipeline.

    Args:
        most_of: How many jobs of a pipeline are taken at most, by its name.
        workers: Among how many workers what waits is shared.
        leave: Pipelines whose jobs are left to others.
    """
    first = claim(session, worker, now, lease, leave=leave)
    if first is None:
        return []
    batch = [first]
    if first.attempts > 1 or session.get(Suspect, first.pipeline) is not None:
        return batch
    session.flush()
    waiting = session.scalar(
        select(func.count()).where(Job.state == JobState.QUEUED, Job.pipeline == first.pipeline)
    )
    share = -(-(1 + (waiting or 0)) // workers)
    while len(batch) < min(most_of(first.pipeline), share):
        session.flush()
        more = claim(session, worker, now, lease, like=first)
        if more is None:
            break
        batch.append(more)
    return batch


def claim(
    session: Session,
    worker: str,
    now: datetime,
    lease: timedelta,
    *,
    like: Job | None = None,
    leave: Collection[str] = (),
) -> Job | None:
    """Take the job that is next; the claim must be renewed within the lease.

    A study that a late image has reopened must settle and be routed again first. Jobs of one
    pipeline on one study run one after another, so that each knows what it replaces. A pipeline
    that is suspect (`store.losses`) has one worker at a time; one that failed its self-test has
    none. `started_at` is that of the first attempt: every attempt's objects bear the same time.

    Args:
        like: Only a job never tried, of the same pipeline and priority.
        leave: No job of these pipelines.
    """
    before, other = aliased(Job), aliased(Job)
    busy_suspects = (
        select(other.pipeline)
        .join(Suspect, Suspect.pipeline == other.pipeline)
        .where(other.state == JobState.RUNNING)
    )
    unfit = select(PipelineTest.pipeline).where(PipelineTest.passed.is_(False))
    turn = select(SenderTurn.turn).where(SenderTurn.sender == Job.sender).scalar_subquery()
    query = (
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
            Job.pipeline.not_in(unfit),
        )
        .order_by(
            Job.priority.desc(),
            func.coalesce(turn, 0),
            # one that is tried again waits behind those that came before its turn
            func.coalesce(Job.not_before, Job.queued_at),
            Job.id,
        )
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
    )
    if like is not None:
        query = query.where(
            Job.pipeline == like.pipeline, Job.priority == like.priority, Job.attempts == 0
        )
    if leave:
        query = query.where(Job.pipeline.not_in(sorted(leave)))
    job = session.scalar(query)
    if job is None or not _may_have_one(session, job.pipeline):
        return None
    job.state = JobState.RUNNING
    job.worker = worker
    job.lease_until = now + lease
    job.started_at = job.started_at or now
    if job.run_record is None:  # once it has finished, it makes the same objects for ever
        job.replaces = _earlier_report(session, job)
    job.attempts += 1
    _had_its_turn(session, job.sender)
    return job


def _may_have_one(session: Session, pipeline: str) -> bool:
    """Tell whether no other worker has, or takes at this moment, a job of a suspect pipeline."""
    if session.get(Suspect, pipeline) is None:
        return True
    if not postgres.try_lock(session, f"suspect {pipeline}"):
        return False
    running = select(Job.id).where(Job.pipeline == pipeline, Job.state == JobState.RUNNING)
    return session.scalar(running.limit(1)) is None


def _had_its_turn(session: Session, sender: str) -> None:
    if not postgres.try_lock(session, f"turn {sender}"):
        return  # another job of it is claimed at this moment: that is its turn
    last = session.scalar(select(func.max(SenderTurn.turn))) or 0
    session.merge(SenderTurn(sender=sender, turn=last + 1))


def waiting(session: Session) -> dict[str, int]:
    """Return how many jobs wait, by pipeline."""
    query = select(Job.pipeline, func.count()).where(Job.state == JobState.QUEUED)
    return dict(session.execute(query.group_by(Job.pipeline)).tuples().all())


def held(session: Session, worker: str) -> int:
    """Return how many jobs a worker runs."""
    query = select(func.count()).where(Job.state == JobState.RUNNING, Job.worker == worker)
    return session.scalar(query) or 0


def own(session: Session, job_id: int, worker: str) -> Job | None:
    """Return the job while this worker's claim on it holds; None: it was lost."""
    job = session.get(Job, job_id)
    if job is None or job.state != JobState.RUNNING or job.worker != worker:
        return None
    return job


def renew(session: Session, job_id: int, worker: str, until: datetime) -> bool:
    """Extend a claim; False when the job is no longer this worker's, or its result is outdated."""
    job = own(session, job_id, worker)
    if job is None:
        return False
    job.lease_until = until
    return job.superseded_by is None


def instances_of(session: Session, job: Job) -> list[Instance]:
    """Return the job's input instances, in the order that routing chose."""
    rows = session.scalars(
        select(Instance)
        .where(Instance.study_id == job.study_id)
        .options(selectinload(Instance.series))
    )
    by_uid = {row.sop_instance_uid: row for row in rows}
    return [by_uid[uid] for uid in job.inputs if uid in by_uid]


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
