"""The node in numbers, counted by the database: for /metrics, `status --json` and the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dicom_node.model.alerts import AlertState, MessageState
from dicom_node.model.events import ReceiveKind
from dicom_node.model.states import DeliveryState, JobState
from dicom_node.store.tables import AuditEvent, Delivery, Instance, Job, Study, Suspect
from dicom_node.store.watch_tables import (
    REPOSITORY,
    Alert,
    AlertMessage,
    AuditMark,
    AuditSeal,
    PeerLook,
)

_MOST_DURATIONS: Final = 5000
QUANTILES: Final = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the jobs of a pipeline took that ended lately.

    Attributes:
        quantiles: (quantile, seconds) of each of `QUANTILES`.
    """

    pipeline: str
    number: int
    seconds: float
    quantiles: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers of now.

    Attributes:
        received: Images that were ever indexed: it only grows, whatever retention removes.
        jobs: By pipeline and state.
        deliveries: By peer and state.
        oldest_job_seconds: How long the job that waits longest has waited; None: none waits.
        oldest_delivery_seconds: The same of the objects for each peer.
        durations: Of the jobs that ended in the last hour.
        refused: What callers were refused in the last day, by kind.
        alerts: Those that fire, by rule and severity.
        messages: Alert messages by channel and state.
        peers_up: Whether each peer answered when it was last asked.
        audit_unsent: Sealed events that the audit repository has not got; None: there is none.
    """

    received: int
    last_received_at: datetime | None
    studies: dict[str, int]
    unrouted: int
    held: int
    jobs: dict[tuple[str, str], int]
    deliveries: dict[tuple[str, str], int]
    oldest_job_seconds: float | None
    oldest_delivery_seconds: dict[str, float]
    durations: list[Durations]
    refused: dict[str, int]
    suspects: int
    alerts: dict[tuple[str, str], int]
    messages: dict[tuple[str, str], int]
    peers_up: dict[str, bool]
    audit_sealed: int
    audit_unsent: int | None


def figures(session: Session, now: datetime) -> Figures:
    """Count everything."""
    hour, day = now - timedelta(hours=1), now - timedelta(days=1)
    waiting = session.scalar(select(func.min(Job.queued_at)).where(Job.state == JobState.QUEUED))
    pending = session.execute(
        select(Delivery.peer, func.min(Delivery.queued_at))
        .where(Delivery.state == DeliveryState.PENDING)
        .group_by(Delivery.peer)
    )
    sealed = session.scalar(select(func.max(AuditSeal.position))) or 0
    mark = session.scalar(select(AuditMark.position).where(AuditMark.name == REPOSITORY))
    return Figures(
        received=session.scalar(select(func.max(Instance.id))) or 0,
        last_received_at=session.scalar(
            select(Instance.received_at).order_by(Instance.id.desc()).limit(1)
        ),
        studies=_by_one(session, Study.state),
        unrouted=_count(session, Study.unrouted_reason.is_not(None)),
        held=_count(session, Study.held_at.is_not(None)),
        jobs=_by_two(session, Job.pipeline, Job.state),
        deliveries=_by_two(session, Delivery.peer, Delivery.state),
        oldest_job_seconds=_seconds(now, waiting) if waiting else None,
        oldest_delivery_seconds={peer: _seconds(now, since) for peer, since in pending},
        durations=_durations(session, hour),
        refused=_refused(session, day),
        suspects=session.scalar(select(func.count()).select_from(Suspect)) or 0,
        alerts=_by_two(session, Alert.rule, Alert.severity, Alert.state == AlertState.FIRING),
        messages=_by_two(
            session,
            AlertMessage.channel,
            AlertMessage.state,
            AlertMessage.state != MessageState.SENT,
        ),
        peers_up={
            peer: trouble is None
            for peer, trouble in session.execute(select(PeerLook.peer, PeerLook.trouble))
        },
        audit_sealed=sealed,
        audit_unsent=None if mark is None else max(0, sealed - mark),
    )


def _durations(session: Session, since: datetime) -> list[Durations]:
    rows = session.execute(
        select(Job.pipeline, Job.started_at, Job.finished_at)
        .where(
            Job.finished_at >= since,
            Job.started_at.is_not(None),
            Job.state.in_((JobState.DONE, JobState.NOT_EVALUATED)),
        )
        .order_by(Job.finished_at.desc())
        .limit(_MOST_DURATIONS)
    )
    taken: dict[str, list[float]] = {}
    for pipeline, started, finished in rows:
        taken.setdefault(pipeline, []).append(_seconds(finished, started))
    return [
        Durations(
            pipeline,
            len(values),
            sum(values),
            [(q, _quantile(sorted(values), q)) for q in QUANTILES],
        )
        for pipeline, values in sorted(taken.items())
    ]


def _quantile(ordered: Sequence[float], quantile: float) -> float:
    """Return the nearest-rank quantile of numbers in order; there is at least one."""
    rank = -(-len(ordered) * quantile // 1)
    return ordered[max(0, int(rank) - 1)]


def _refused(session: Session, since: datetime) -> dict[str, int]:
    times = func.coalesce(AuditEvent.data["times"].as_integer(), 1)
    rows = session.execute(
        select(AuditEvent.kind, func.sum(times))
        .where(AuditEvent.kind.in_(list(ReceiveKind)), AuditEvent.at >= since)
        .group_by(AuditEvent.kind)
    )
    found = {kind: int(number) for kind, number in rows}
    return {str(kind): found.get(kind, 0) for kind in ReceiveKind}


def _by_one(session: Session, column: InstrumentedAttribute[str]) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).group_by(column))
    return {key: number for key, number in rows}  # noqa: C416 - typed, unlike dict(rows)


def _by_two(
    session: Session,
    first: InstrumentedAttribute[str],
    second: InstrumentedAttribute[str],
    *conditions: ColumnElement[bool],
) -> dict[tuple[str, str], int]:
    rows = session.execute(
        select(first, second, func.count()).where(*conditions).group_by(first, second)
    )
    return {(one, two): number for one, two, number in rows}


def _count(session: Session, condition: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(Study).where(condition)) or 0


def _seconds(later: datetime, earlier: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())
