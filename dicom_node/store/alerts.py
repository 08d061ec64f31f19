"""Which alerts there are, and which messages wait: for the command line and the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.model.alerts import AlertState, MessageState, Severity
from dicom_node.store.watch_tables import Alert, AlertMessage


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One alert: what, since when, and what to do; never a patient's data."""

    rule: str
    subject: str
    state: str
    severity: str
    text: str
    fix: str
    since: datetime
    fired_at: datetime | None
    recovered_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """A channel's messages; `trouble` is why the oldest one that waits was not taken."""

    channel: str
    waiting: int
    given_up: int
    last_sent_at: datetime | None
    trouble: str | None


def alerts_firing(session: Session) -> list[AlertLine]:
    """Return the alerts that fire, the gravest and oldest first."""
    rows = session.execute(
        select(*_COLUMNS).where(Alert.state == AlertState.FIRING).order_by(Alert.since, Alert.id)
    )
    lines = [AlertLine(*row) for row in rows]
    return sorted(lines, key=lambda line: line.severity != Severity.CRITICAL)


def alerts(session: Session, limit: int = 100) -> list[AlertLine]:
    """Return the alerts that fire or fired, those that changed last first."""
    changed = func.coalesce(Alert.recovered_at, Alert.fired_at, Alert.since)
    rows = session.execute(select(*_COLUMNS).order_by(changed.desc(), Alert.id).limit(limit))
    return [AlertLine(*row) for row in rows]


def channel_lines(session: Session) -> list[ChannelLine]:
    """Return what became of the messages to each channel."""
    found = []
    for name in session.scalars(select(AlertMessage.channel).distinct()).all():
        rows = session.execute(
            select(AlertMessage.state, func.count(), func.max(AlertMessage.ended_at))
            .where(AlertMessage.channel == name)
            .group_by(AlertMessage.state)
        )
        numbers = {state: (number, last) for state, number, last in rows}
        trouble = session.scalar(
            select(AlertMessage.trouble)
            .where(AlertMessage.channel == name, AlertMessage.state == MessageState.WAITING)
            .order_by(AlertMessage.id)
            .limit(1)
        )
        found.append(
            ChannelLine(
                name,
                numbers.get(MessageState.WAITING, (0, None))[0],
                numbers.get(MessageState.GIVEN_UP, (0, None))[0],
                numbers.get(MessageState.SENT, (0, None))[1],
                trouble,
            )
        )
    return sorted(found, key=lambda line: line.channel)


_COLUMNS = (
    Alert.rule,
    Alert.subject,
    Alert.state,
    Alert.severity,
    Alert.text,
    Alert.fix,
    Alert.since,
    Alert.fired_at,
    Alert.recovered_at,
)
