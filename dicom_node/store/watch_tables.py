"""The tables of those who watch: the audit trail's seals, alerts, and looks at peers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.store.tables import Base


class AuditSeal(Base):
    """One link of the audit trail's chain; the event itself may be forgotten later.

    Attributes:
        position: 1, 2, 3 … in the order of sealing, without gaps.
        digest: SHA-256 over the digest before it and the event (dicom_node.store.chain).
    """

    __tablename__ = "audit_seals"

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[int] = mapped_column(index=True)
    digest: Mapped[str] = mapped_column(String(64))


REPOSITORY: Final = "repository"
"""Name of the site's audit record repository among the marks."""


class AuditMark(Base):
    """How far somebody has got along the audit trail.

    Attributes:
        name: Who.
        trouble: Why it does not get on; None: it does.
    """

    __tablename__ = "audit_marks"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    position: Mapped[int]
    at: Mapped[datetime]
    failures: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    trouble: Mapped[str | None] = mapped_column(Text)


class Alert(Base):
    """Something that is wrong, or was: one row per rule and subject.

    Attributes:
        rule: `AlertRule`.
        subject: Which peer, pipeline, role …; "" where the rule has but one.
        state: `AlertState`.
        since: Since when the condition holds without a break.
        told_at: When the channels were told last.
    """

    __tablename__ = "alerts"
    __table_args__ = (UniqueConstraint("rule", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    severity: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)
    fix: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime]
    fired_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    recovered_at: Mapped[datetime | None]


class AlertMessage(Base):
    """One message to one channel, kept until the channel has taken it.

    Attributes:
        body: {"rule", "subject", "change", "severity", "text", "fix", "since"}; never a
            patient's data.
        trouble: Why the last attempt failed.
    """

    __tablename__ = "alert_messages"
    __table_args__ = (Index("ix_alert_messages_due", "channel", "state", "not_before"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    made_at: Mapped[datetime]
    not_before: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    ended_at: Mapped[datetime | None]
    trouble: Mapped[str | None] = mapped_column(Text)


class PeerLook(Base):
    """How a peer answered when it was last asked whether it is there (C-ECHO, QIDO-RS).

    Attributes:
        since: Since when it answers, or does not, without a break.
        trouble: Why it does not answer; None: it does.
        certificate_ends_at: Of the TLS certificate that it showed; None: it showed none.
    """

    __tablename__ = "peer_looks"

    peer: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime]
    since: Mapped[datetime]
    trouble: Mapped[str | None] = mapped_column(Text)
    certificate_ends_at: Mapped[datetime | None]
