"""How much went through in the last hour and day: counted in the database, a bar at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.orm import Session

from dicom_node.model.states import DeliveryState, JobState
from dicom_node.store.tables import AuditEvent, Delivery, Job, Study


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in equal parts, the last of which ends now."""

    parts: int
    each: timedelta

    @property
    def length(self) -> timedelta:
        return self.parts * self.each


HOUR = Window(12, timedelta(minutes=5))
DAY = Window(24, timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened in a window, oldest part first.

    Attributes:
        received: Studies that began to come.
        finished: Jobs that ended with a result, "not evaluated" among them.
        delivered: Objects that a peer took.
        failed: Jobs that failed and deliveries that were given up.
    """

    received: tuple[int, ...]
    finished: tuple[int, ...]
    delivered: tuple[int, ...]
    failed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PeerActivity:
    """What one peer of ours did; None: never.

    Attributes:
        waiting: Objects that wait to be sent to it; `oldest` since when the longest does.
        given_up: Objects that it did not take, in the end.
        answer: What it said last to one that failed or waits for another try.
    """

    waiting: int = 0
    oldest: datetime | None = None
    given_up: int = 0
    sent_at: datetime | None = None
    answer: str | None = None


def activity(session: Session, now: datetime, window: Window) -> Activity:
    """Count what happened in a window that ends now."""
    ended = Job.state.in_((JobState.DONE, JobState.NOT_EVALUATED))
    failed_jobs = _parts(session, Job.finished_at, now, window, Job.state == JobState.FAILED)
    given_up = _parts(session, AuditEvent.at, now, window, AuditEvent.kind == "report_failed")
    return Activity(
        received=_parts(session, Study.first_instance_at, now, window),
        finished=_parts(session, Job.finished_at, now, window, ended),
        delivered=_parts(session, Delivery.sent_at, now, window),
        failed=tuple(a + b for a, b in zip(failed_jobs, given_up, strict=True)),
    )


def peer_activity(session: Session, name: str) -> PeerActivity:
    """Say how it stands with what goes to a peer."""

    def of(state: DeliveryState) -> ColumnElement[bool]:
        return and_(Delivery.peer == name, Delivery.state == state)

    waiting, oldest = session.execute(
        select(func.count(), func.min(Delivery.queued_at)).where(of(DeliveryState.PENDING))
    ).one()
    given_up = session.scalar(select(func.count()).where(of(DeliveryState.FAILED))) or 0
    answer = session.scalar(
        select(Delivery.answer)
        .where(
            Delivery.peer == name,
            Delivery.state.in_((DeliveryState.PENDING, DeliveryState.FAILED)),
            Delivery.answer.is_not(None),
        )
        .order_by(Delivery.next_attempt_at.desc())
        .limit(1)
    )
    sent_at = session.scalar(select(func.max(Delivery.sent_at)).where(Delivery.peer == name))
    return PeerActivity(waiting, oldest, given_up, sent_at, answer)


def last_study_from(session: Session, ae_title: str) -> datetime | None:
    """Return when the latest study of a sender had its last image."""
    return session.scalar(
        select(Study.last_instance_at)
        .where(Study.sender == ae_title)
        .order_by(Study.id.desc())
        .limit(1)
    )


def _parts(
    session: Session, column: Any, now: datetime, window: Window, *conditions: ColumnElement[bool]
) -> tuple[int, ...]:
    begin = now - window.length
    ends = [begin + (part + 1) * window.each for part in range(window.parts)]
    sums = [
        func.sum(case((and_(column > end - window.each, column <= end), 1), else_=0))
        for end in ends
    ]
    row: Sequence[int | None] = session.execute(
        select(*sums).where(column > begin, column <= now, *conditions)
    ).one()
    return tuple(value or 0 for value in row)
