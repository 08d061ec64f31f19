"""What waits for a time that was set while the clock was ahead; it would wait until it is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from dicom_node.model.alerts import MessageState
from dicom_node.model.commitment import CommitmentState
from dicom_node.model.states import DeliveryState, JobState
from dicom_node.store.tables import Commitment, Delivery, Job
from dicom_node.store.watch_tables import AlertMessage, AuditMark


@dataclass(frozen=True, slots=True)
class Longest:
    """For how long each may wait at most.

    Attributes:
        attempt: A job, a delivery or a commitment report, for another attempt.
        ask: An object that was sent, for its peer to be asked (again) to commit to it.
        claim: A job that runs, for its worker to renew the claim.
        message: A message of the alerts or of the audit trail, for another attempt.
    """

    attempt: timedelta
    ask: timedelta
    claim: timedelta
    message: timedelta


@dataclass(frozen=True, slots=True)
class Ahead:
    """How many wait for longer than any wait is."""

    jobs: int = 0
    deliveries: int = 0
    asks: int = 0
    commitments: int = 0
    claims: int = 0
    messages: int = 0

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class _Wait:
    """A column with a time that rows of one kind wait for; they get `to` instead."""

    counted_as: str
    column: InstrumentedAttribute[Any]
    ahead: ColumnElement[bool]
    to: datetime


def waits_ahead(session: Session, now: datetime, longest: Longest) -> Ahead:
    """Return what waits for a time after the latest that may be waited for."""
    found: dict[str, int] = {}
    for wait in _waits(now, longest):
        number = session.scalar(select(func.count(wait.column)).where(wait.ahead)) or 0
        found[wait.counted_as] = found.get(wait.counted_as, 0) + number
    return Ahead(**found)


def let_go(session: Session, now: datetime, longest: Longest) -> None:
    """Let what `waits_ahead` counts have its turn now; a claim that nobody renews runs out."""
    for wait in _waits(now, longest):
        statement = update(wait.column.class_).where(wait.ahead).values({wait.column: wait.to})
        session.execute(statement.execution_options(synchronize_session=False))


def _waits(now: datetime, longest: Longest) -> Iterator[_Wait]:
    for counted_as, column, of_kind, limit in (
        ("jobs", Job.not_before, Job.state == JobState.QUEUED, longest.attempt),
        (
            "deliveries",
            Delivery.next_attempt_at,
            Delivery.state == DeliveryState.PENDING,
            longest.attempt,
        ),
        ("asks", Delivery.ask_at, Delivery.state == DeliveryState.SENT, longest.ask),
        (
            "commitments",
            Commitment.not_before,
            Commitment.state == CommitmentState.VERIFIED,
            longest.attempt,
        ),
        (
            "commitments",
            Commitment.requested_at,
            Commitment.state == CommitmentState.REQUESTED,
            longest.attempt,
        ),
        (
            "messages",
            AlertMessage.not_before,
            AlertMessage.state == MessageState.WAITING,
            longest.message,
        ),
        ("messages", AuditMark.not_before, AuditMark.not_before.is_not(None), longest.message),
    ):
        yield _Wait(counted_as, column, and_(of_kind, column > now + limit), now)
    # a worker that lives has all the time to renew it
    late = and_(Job.state == JobState.RUNNING, Job.lease_until > now + longest.claim)
    yield _Wait("claims", Job.lease_until, late, now + longest.claim)
