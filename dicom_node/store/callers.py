"""Callers that were not let in because nobody knows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.model.events import ReceiveKind
from dicom_node.store.tables import AuditEvent


@dataclass(frozen=True, slots=True)
class CallerLine:
    """Who called from where, how often, and why it was not let in."""

    calling_ae: str
    called_ae: str
    address: str
    reason: str
    times: int
    first_at: datetime
    last_at: datetime


def rejected_callers(session: Session, since: datetime, limit: int = 50) -> list[CallerLine]:
    """Return who was not let in since a time, the latest first."""
    data = AuditEvent.data
    # taken out of the JSON first: PostgreSQL groups by no expression with a parameter in it
    events = (
        select(
            AuditEvent.peer.label("calling"),
            data["called_ae"].as_string().label("called"),
            data["address"].as_string().label("address"),
            data["reason"].as_string().label("reason"),
            AuditEvent.at.label("at"),
        )
        .where(AuditEvent.kind == ReceiveKind.ASSOCIATION_REJECTED, AuditEvent.at >= since)
        .subquery()
    ).c
    who = (events.calling, events.called, events.address, events.reason)
    rows = session.execute(
        select(*who, func.count(), func.min(events.at), func.max(events.at))
        .group_by(*who)
        .order_by(func.max(events.at).desc())
        .limit(limit)
    )
    return [
        CallerLine(title or "", to or "", where or "", why or "", times, first, last)
        for title, to, where, why, times, first, last in rows
    ]
