"""The audit trail: every decision about a study becomes a row in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from dicom_node.store.tables import AuditEvent

COLUMNS: Final = (
    AuditEvent.id,
    AuditEvent.at,
    AuditEvent.kind,
    AuditEvent.study_uid,
    AuditEvent.job_id,
    AuditEvent.peer,
    AuditEvent.data,
)
"""All of an event, without an object of the session for each."""


def record(
    session: Session,
    at: datetime,
    kind: str,
    *,
    study_uid: str | None = None,
    job_id: int | None = None,
    peer: str | None = None,
    **data: Any,
) -> None:
    """Add one audit event; `data` may hold UIDs and our own ids, never patient data."""
    session.add(
        AuditEvent(at=at, kind=kind, study_uid=study_uid, job_id=job_id, peer=peer, data=data)
    )


def is_recorded(session: Session, kind: str, **data: str) -> bool:
    """Tell whether there is an event of this kind with these texts among its data."""
    query = select(AuditEvent.id).where(AuditEvent.kind == kind)
    for key, value in data.items():
        query = query.where(AuditEvent.data[key].as_string() == value)
    return session.scalar(query.limit(1)) is not None


def latest(
    session: Session, limit: int, *, kind: str | None = None, study_uid: str | None = None
) -> Sequence[Row[Any]]:
    """Return the columns of the latest events, newest first; of one kind or study if given."""
    query = select(*COLUMNS).order_by(AuditEvent.id.desc()).limit(limit)
    if kind:
        query = query.where(AuditEvent.kind == kind)
    if study_uid:
        query = query.where(AuditEvent.study_uid == study_uid)
    return session.execute(query).all()


def events_of(session: Session, study_uid: str) -> Sequence[AuditEvent]:
    """Return a study's audit events, oldest first."""
    return session.scalars(
        select(AuditEvent).where(AuditEvent.study_uid == study_uid).order_by(AuditEvent.id)
    ).all()
