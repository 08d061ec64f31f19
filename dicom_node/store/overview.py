"""What the CLI and the dashboard show: studies with their jobs and deliveries, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from dicom_node.model.events import ReceiveKind
from dicom_node.model.states import DeliveryState
from dicom_node.store import outbox
from dicom_node.store.tables import AuditEvent, Delivery, Instance, Job, Report, Study, Suspect


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One object to one peer; `next_attempt_at` counts while it is pending."""

    peer: str
    kind: str
    sop_instance_uid: str
    state: str
    attempts: int
    answer: str | None
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job, its last error and its objects' deliveries; `reports` are paths by kind.

    `left_out` are the objects that its source images did not allow, each with the reason.
    """

    id: int
    study_uid: str
    pipeline: str
    version: str
    state: str
    attempts: int
    reason: str
    error: str | None
    queued_at: datetime
    finished_at: datetime | None
    statement: str | None
    reports: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    deliveries: tuple[DeliveryLine, ...]


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study; `modality` and `body_part` are of its first instance."""

    study_uid: str
    state: str
    instances: int
    senders: tuple[str, ...]
    modality: str
    last_instance_at: datetime
    unrouted_reason: str | None
    held: str | None
    jobs: tuple[JobLine, ...]


@dataclass(frozen=True, slots=True)
class HeldLine:
    """A study that waits for a person: since when, `HoldReason`, and the same in words."""

    study_uid: str
    since: datetime
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class SuspectLine:
    """A pipeline that took down its worker and has finished no job since."""

    pipeline: str
    since: datetime
    why: str


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """Files that wait to be indexed, and those that were set aside."""

    waiting: int
    aside: int


@dataclass(frozen=True, slots=True)
class RefusalLine:
    """What a caller was refused, and how often; `reason` says what to do."""

    kind: str
    calling_ae: str
    address: str
    reason: str
    times: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers by state; deliveries by peer, then state."""

    studies: dict[str, int]
    unrouted: int
    jobs: dict[str, int]
    deliveries: dict[str, dict[str, int]]


def counts(session: Session) -> Counts:
    """Count everything by state."""

    def by(column: InstrumentedAttribute[str]) -> dict[str, int]:
        rows = session.execute(select(column, func.count()).group_by(column).order_by(column))
        return {state: number for state, number in rows}  # noqa: C416 - typed, unlike dict(rows)

    return Counts(
        studies=by(Study.state),
        unrouted=session.scalar(select(func.count()).where(Study.unrouted_reason.is_not(None)))
        or 0,
        jobs=by(Job.state),
        deliveries=outbox.counts(session),
    )


def held(session: Session) -> list[HeldLine]:
    """Return the studies that wait for a person, the longest wait first."""
    rows = session.scalars(
        select(Study).where(Study.held_at.is_not(None)).order_by(Study.held_at, Study.id)
    )
    return [
        HeldLine(row.study_instance_uid, row.held_at, row.held_reason or "", row.held_text or "")
        for row in rows
        if row.held_at is not None
    ]


def suspects(session: Session) -> list[SuspectLine]:
    """Return the pipelines that took down their worker and have finished no job since."""
    rows = session.scalars(select(Suspect).order_by(Suspect.since))
    return [SuspectLine(row.pipeline, row.since, row.why) for row in rows]


def spool_counts(spool_dir: Path) -> SpoolCounts:
    """Count the files that the index does not have (yet)."""

    def number(folder: str) -> int:
        place = spool_dir / folder
        return sum(1 for _ in place.iterdir()) if place.is_dir() else 0

    return SpoolCounts(number("inbox"), number("aside"))


def refusals(session: Session, since: datetime, limit: int = 5) -> list[RefusalLine]:
    """Return what callers were refused since a time, the latest first."""
    address = AuditEvent.data["address"].as_string()
    reason = AuditEvent.data["reason"].as_string()
    kinds = [kind for kind in ReceiveKind if kind is not ReceiveKind.ASSOCIATION_ABORTED]
    # one row may stand for many that came within a minute
    times = func.coalesce(AuditEvent.data["times"].as_integer(), 1)
    what = (AuditEvent.kind, AuditEvent.peer, address, reason)
    rows = session.execute(
        select(*what, func.sum(times), func.max(AuditEvent.at))
        .where(AuditEvent.kind.in_(kinds), AuditEvent.at >= since)
        .group_by(*what)
        .order_by(func.max(AuditEvent.at).desc())
        .limit(limit)
    )
    return [
        RefusalLine(kind, calling or "", where or "", why or "", number, last_at)
        for kind, calling, where, why, number, last_at in rows
    ]


def studies(session: Session, limit: int = 20, study_uid: str | None = None) -> list[StudyLine]:
    """Return the latest studies, newest first, or the one named."""
    query = (
        select(Study)
        .options(
            selectinload(Study.jobs).selectinload(Job.reports).selectinload(Report.deliveries),
            selectinload(Study.jobs).selectinload(Job.findings),
        )
        .order_by(Study.id.desc())
        .limit(limit)
    )
    if study_uid:
        query = query.where(Study.study_instance_uid == study_uid)
    found = session.scalars(query).all()
    return [_study_line(session, study) for study in found]


def jobs(
    session: Session,
    limit: int = 50,
    state: str | None = None,
    *,
    pipeline: str | None = None,
    study_uid: str | None = None,
) -> list[JobLine]:
    """Return the latest jobs, newest first; of one state, pipeline or study if given."""
    query = (
        select(Job)
        .options(
            selectinload(Job.study),
            selectinload(Job.reports).selectinload(Report.deliveries),
            selectinload(Job.findings),
        )
        .order_by(Job.id.desc())
        .limit(limit)
    )
    if state:
        query = query.where(Job.state == state)
    if pipeline:
        query = query.where(Job.pipeline == pipeline)
    if study_uid:
        query = query.where(Job.study.has(Study.study_instance_uid == study_uid))
    return [job_line(job) for job in session.scalars(query).all()]


def job_line(job: Job) -> JobLine:
    """Flatten a job."""
    return JobLine(
        id=job.id,
        study_uid=job.study.study_instance_uid,
        pipeline=job.pipeline,
        version=job.version,
        state=job.state,
        attempts=job.attempts,
        reason=job.reason,
        error=_error(job),
        queued_at=job.queued_at,
        finished_at=job.finished_at,
        statement=next((row.data["text"] for row in job.findings if row.kind == "statement"), None),
        reports=tuple((report.kind, report.path) for report in job.reports),
        left_out=tuple(
            f"{item['kind']}: {item['why']}" for item in (job.run_record or {}).get("left_out", ())
        ),
        deliveries=tuple(
            _delivery_line(report, delivery)
            for report in job.reports
            for delivery in report.deliveries
        ),
    )


def unsent_deliveries(
    session: Session, peer: str | None = None, *, waiting: bool = False
) -> Sequence[Delivery]:
    """Return the deliveries that were given up, to one peer or to all.

    Args:
        waiting: Those that wait for their next attempt, too.
    """
    states = [DeliveryState.FAILED, *([DeliveryState.PENDING] if waiting else [])]
    query = select(Delivery).where(Delivery.state.in_(states)).order_by(Delivery.id)
    if peer:
        query = query.where(Delivery.peer == peer)
    return session.scalars(
        query.options(
            selectinload(Delivery.report).selectinload(Report.job).selectinload(Job.study)
        )
    ).all()


def _error(job: Job) -> str | None:
    return "{what}: {why} ({fix})".format(**job.error) if job.error else None


def _delivery_line(report: Report, delivery: Delivery) -> DeliveryLine:
    return DeliveryLine(
        peer=delivery.peer,
        kind=report.kind,
        sop_instance_uid=report.sop_instance_uid,
        state=delivery.state,
        attempts=delivery.attempts,
        answer=delivery.answer,
        next_attempt_at=delivery.next_attempt_at,
    )


def _study_line(session: Session, study: Study) -> StudyLine:
    number = session.scalar(select(func.count()).where(Instance.study_id == study.id)) or 0
    senders = session.scalars(
        select(Instance.sender).where(Instance.study_id == study.id).distinct()
    ).all()
    first = session.scalar(
        select(Instance).where(Instance.study_id == study.id).order_by(Instance.id).limit(1)
    )
    return StudyLine(
        study_uid=study.study_instance_uid,
        state=study.state,
        instances=number,
        senders=tuple(sorted(senders)),
        modality=str(first.attributes.get("Modality", "")) if first else "",
        last_instance_at=study.last_instance_at,
        unrouted_reason=study.unrouted_reason,
        held=study.held_text,
        jobs=tuple(job_line(job) for job in study.jobs),
    )
