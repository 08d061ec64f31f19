"""Which alerts fire: each is told once, again after a time, and when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, select
from sqlalchemy import update as update_rows
from sqlalchemy.orm import Session

from dicom_node.alerts.notes import Notice
from dicom_node.alerts.rules import Condition
from dicom_node.config.watching import AlertsSection
from dicom_node.model.alerts import DEFAULTS, AlertRule, AlertState, Change, MessageState
from dicom_node.store.watch_tables import Alert, AlertMessage


def update(
    session: Session,
    found: Sequence[Condition],
    section: AlertsSection,
    node: str,
    now: datetime,
) -> list[Notice]:
    """Compare what is wrong now with what is known, and queue the messages that follow.

    A condition has to hold for its rule's time before it fires, and to be gone for as long before
    it has recovered: one that comes and goes is told once.

    Args:
        node: What we call ourselves in messages.

    Returns:
        The messages, whether or not there is a channel for them.
    """
    _leave_gone_channels(session, section, now)
    rows = {(row.rule, row.subject): row for row in session.scalars(select(Alert))}
    for row in rows.values():
        _as_of(row, now)
    wrong = {(str(item.rule), item.subject): item for item in found}
    told = [
        notice
        for key, item in wrong.items()
        if (notice := _wrong(session, rows.get(key), item, section, node, now))
    ]
    for key, row in rows.items():
        if key not in wrong and row.state != AlertState.RECOVERED:
            notice = _right(session, row, section, node, now)
            if notice is not None:
                told.append(notice)
    for notice in told:
        for channel in section.told(AlertRule(notice.rule)):
            session.add(
                AlertMessage(
                    channel=channel,
                    state=MessageState.WAITING,
                    body=notice.plain(),
                    made_at=now,
                    not_before=now,
                )
            )
    return told


def forget(session: Session, before: datetime) -> None:
    """Delete messages that ended, and alerts that recovered, before a time."""
    session.execute(delete(AlertMessage).where(AlertMessage.ended_at < before))
    session.execute(
        delete(Alert).where(Alert.state == AlertState.RECOVERED, Alert.recovered_at < before)
    )


def _leave_gone_channels(session: Session, section: AlertsSection, now: datetime) -> None:
    """Give up what waits for a channel that node.yaml does not have: nobody would ever send it."""
    gone = and_(
        AlertMessage.state == MessageState.WAITING,
        AlertMessage.channel.not_in(list(section.channels)),
    )
    session.execute(
        update_rows(AlertMessage)
        .where(gone)
        .values(state=MessageState.GIVEN_UP, ended_at=now, trouble="node.yaml has no such channel")
    )


def _as_of(row: Alert, now: datetime) -> None:
    """Of a time that a clock ahead has set, nothing would follow until it is there."""
    row.since = min(row.since, now)
    row.told_at = row.told_at and min(row.told_at, now)
    row.recovered_at = row.recovered_at and min(row.recovered_at, now)


def _wrong(
    session: Session,
    row: Alert | None,
    item: Condition,
    section: AlertsSection,
    node: str,
    now: datetime,
) -> Notice | None:
    if row is None:
        row = Alert(rule=item.rule, subject=item.subject, state=AlertState.RECOVERED)
        session.add(row)
    row.text, row.fix = item.text, item.fix
    row.severity = DEFAULTS[item.rule].severity
    if row.state == AlertState.RECOVERED:
        row.state = AlertState.PENDING
        row.since = now
        row.fired_at = row.told_at = None
    row.recovered_at = None
    if row.state == AlertState.PENDING:
        if now - row.since < section.holds_for(item.rule):
            return None
        row.state = AlertState.FIRING
        row.fired_at = row.told_at = now
        return _notice(row, Change.FIRING, node, row.since)
    repeat = section.repeat_after(item.rule)
    if repeat is None or row.told_at is None or now - row.told_at < repeat:
        return None
    row.told_at = now
    return _notice(row, Change.STILL, node, row.since)


def _right(
    session: Session, row: Alert, section: AlertsSection, node: str, now: datetime
) -> Notice | None:
    known = row.rule in set(AlertRule)
    if row.state == AlertState.PENDING or not known or not section.enabled(AlertRule(row.rule)):
        session.delete(row)
        return None
    row.recovered_at = row.recovered_at or now
    if now - row.recovered_at < section.holds_for(AlertRule(row.rule)):
        return None
    row.state = AlertState.RECOVERED
    return _notice(row, Change.RECOVERED, node, row.recovered_at)


def _notice(row: Alert, change: Change, node: str, since: datetime) -> Notice:
    severity = DEFAULTS[AlertRule(row.rule)].severity
    return Notice(node, row.rule, row.subject, change, severity, row.text, row.fix, since)


FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(minutes=30)
GIVE_UP_AFTER = timedelta(hours=24)
"""Of a message that its channel does not take."""


def due(session: Session, channel: str, now: datetime) -> AlertMessage | None:
    """Return the oldest message that waits for a channel, if it may be tried now."""
    row = session.scalars(
        select(AlertMessage)
        .where(AlertMessage.channel == channel, AlertMessage.state == MessageState.WAITING)
        .order_by(AlertMessage.id)
        .limit(1)
    ).first()
    return row if row is not None and row.not_before <= now else None


def mark_sent(session: Session, message_id: int, now: datetime) -> None:
    """A channel has taken a message."""
    row = session.get_one(AlertMessage, message_id)
    row.state, row.ended_at, row.trouble = MessageState.SENT, now, None
    row.attempts += 1


def mark_failed(session: Session, message_id: int, why: str, now: datetime) -> bool:
    """A channel has not taken a message; returns False when it is given up."""
    row = session.get_one(AlertMessage, message_id)
    row.attempts += 1
    row.trouble = why
    if now - row.made_at >= GIVE_UP_AFTER:
        row.state, row.ended_at = MessageState.GIVEN_UP, now
        return False
    row.not_before = now + min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(row.attempts - 1, 10))
    return True
