"""What does not get on: each question of the alerts, answered by the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session

from dicom_node.model.events import ReceiveKind
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store import withheld
from dicom_node.store.tables import AuditEvent, Delivery, Job, Report, Study, Suspect

_MOST_ROWS: Final = 5000


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many wait, since when the oldest, and which that is."""

    number: int
    since: datetime
    oldest: str


def stuck_studies(session: Session, quiet_before: datetime, before: datetime) -> Waiting | None:
    """Return the studies that should have settled, or should have been routed.

    Args:
        quiet_before: One whose last image came before this should have settled.
        before: One that settled before this should have been routed.
    """
    stuck = or_(
        and_(Study.state == StudyState.RECEIVING, Study.last_instance_at < quiet_before),
        and_(
            Study.state == StudyState.SETTLED,
            Study.routed_revision < Study.revision,
            Study.settled_at < before,
        ),
    )
    return _waiting(session, Study.last_instance_at, and_(Study.held_at.is_(None), stuck))


def held_studies(session: Session) -> Waiting | None:
    """Return the studies that wait for a person."""
    return _waiting(session, Study.held_at, Study.held_at.is_not(None))


def _waiting(session: Session, since: Any, condition: ColumnElement[bool]) -> Waiting | None:
    number = session.scalar(select(func.count()).select_from(Study).where(condition)) or 0
    if not number:
        return None
    row = session.execute(
        select(since, Study.study_instance_uid).where(condition).order_by(since).limit(1)
    ).one()
    return Waiting(number, row[0], row[1])


def old_jobs(session: Session, before: datetime) -> Waiting | None:
    """Return the jobs that have waited for a worker since before a time."""
    condition = and_(
        Job.state == JobState.QUEUED,
        Job.queued_at < before,
        or_(Job.not_before.is_(None), Job.not_before < before),
        Study.held_at.is_(None),
    )
    rows = session.execute(
        select(Job.id, Job.queued_at).join(Job.study).where(condition).order_by(Job.queued_at)
    ).all()
    return Waiting(len(rows), rows[0].queued_at, f"job {rows[0].id}") if rows else None


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Objects that a peer has not got: those that wait too long, and those given up."""

    peer: str
    late: int
    given_up: int


def undelivered(session: Session, before: datetime) -> list[Undelivered]:
    """Return what peers have not got that was queued before a time, or was given up."""
    late = and_(Delivery.state == DeliveryState.PENDING, Delivery.queued_at < before)
    failed = Delivery.state == DeliveryState.FAILED
    rows = session.execute(
        select(
            Delivery.peer, func.sum(case((late, 1), else_=0)), func.sum(case((failed, 1), else_=0))
        )
        .join(Delivery.report)
        .join(Report.job)
        .join(Job.study)
        .where(
            Delivery.state.in_((DeliveryState.PENDING, DeliveryState.FAILED)),
            Job.superseded_by.is_(None),
            withheld.is_current(),
            or_(late, failed),
        )
        .group_by(Delivery.peer)
        .order_by(Delivery.peer)
    )
    return [Undelivered(peer, int(late), int(failed)) for peer, late, failed in rows]


def ended_jobs(session: Session, since: datetime) -> dict[str, tuple[int, int]]:
    """Return how many jobs of each pipeline ended since a time, and how many of them failed."""
    failed = case((Job.state == JobState.FAILED, 1), else_=0)
    rows = session.execute(
        select(Job.pipeline, func.count(), func.sum(failed))
        .where(Job.finished_at >= since)
        .group_by(Job.pipeline)
    )
    return {pipeline: (number, int(bad or 0)) for pipeline, number, bad in rows}


def suspect_pipelines(session: Session) -> list[str]:
    """Return the pipelines that took down a worker and have finished no job since."""
    return list(session.scalars(select(Suspect.pipeline).order_by(Suspect.pipeline)))


def events_since(session: Session, kind: str, since: datetime) -> int:
    """Count the audit events of a kind since a time."""
    query = select(func.count()).where(AuditEvent.kind == kind, AuditEvent.at >= since)
    return session.scalar(query) or 0


def starts_since(session: Session, since: datetime) -> Counter[str]:
    """Return how often each process of the node was started since a time."""
    rows = session.scalars(
        select(AuditEvent.data)
        .where(AuditEvent.kind == "role_started", AuditEvent.at >= since)
        .limit(_MOST_ROWS)
    )
    return Counter(str(data.get("child", "")) for data in rows)


@dataclass(frozen=True, slots=True)
class Refused:
    """Refusals of all callers, and who was refused most."""

    times: int
    caller: str
    caller_times: int


def refused_since(session: Session, since: datetime) -> Refused | None:
    """Return what was refused since a time."""
    kinds = [kind for kind in ReceiveKind if kind is not ReceiveKind.ASSOCIATION_ABORTED]
    rows = session.execute(
        select(AuditEvent.peer, AuditEvent.data)
        .where(AuditEvent.kind.in_(kinds), AuditEvent.at >= since)
        .order_by(AuditEvent.id.desc())
        .limit(_MOST_ROWS)
    )
    callers: Counter[str] = Counter()
    for peer, data in rows:
        who = " at ".join(filter(None, (peer, str(data.get("address") or ""))))
        callers[who or "a caller without a title"] += int(data.get("times") or 1)
    if not callers:
        return None
    caller, most = callers.most_common(1)[0]
    return Refused(sum(callers.values()), caller, most)


def newest_event(session: Session) -> datetime | None:
    """Return the time of the last audit event."""
    return session.scalar(select(AuditEvent.at).order_by(AuditEvent.id.desc()).limit(1))
