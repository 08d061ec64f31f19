"""The history of `node.yaml`, and how each reload went."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.store import audit
from dicom_node.store.configuration_tables import AppliedConfiguration, Reload

_RELOADS_KEPT = 100


@dataclass(frozen=True, slots=True)
class ConfigurationLine:
    """One entry of the history, newest first; `text` is what `node.yaml` held from then on."""

    id: int
    at: datetime
    by: str
    why: str
    digest: str


@dataclass(frozen=True, slots=True)
class ReloadLine:
    """How a reload went; `problems` name file, line, reason and fix."""

    id: int
    at: datetime
    taken: bool
    digest: str | None
    problems: Sequence[str]
    needs_restart: Sequence[str]

    @property
    def ok(self) -> bool:
        return self.taken


def digest_of(text: str) -> str:
    """Return the SHA-256 by which a text is known, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def add(session: Session, text: str, by: str, why: str, at: datetime) -> int:
    """Put a text into the history, and the audit trail; returns its number."""
    digest = digest_of(text)
    row = AppliedConfiguration(at=at, by=by[:128], why=why, digest=digest, text=text)
    session.add(row)
    session.flush()
    audit.record(session, at, "configuration_applied", by=by, why=why, digest=digest)
    return row.id


def keep_if_new(session: Session, text: str, by: str, why: str, at: datetime) -> None:
    """Put a text into the history unless it is the newest there."""
    newest = session.scalar(
        select(AppliedConfiguration.digest).order_by(AppliedConfiguration.id.desc()).limit(1)
    )
    digest = digest_of(text)
    if newest != digest:
        session.add(AppliedConfiguration(at=at, by=by[:128], why=why, digest=digest, text=text))


def history(session: Session, limit: int = 50) -> list[ConfigurationLine]:
    """Return the latest entries of the history, newest first."""
    row = AppliedConfiguration
    query = select(row.id, row.at, row.by, row.why, row.digest).order_by(row.id.desc())
    return [ConfigurationLine(*found) for found in session.execute(query.limit(limit))]


def entry(session: Session, number: int) -> ConfigurationLine | None:
    """Return an entry of the history; None: there is none of that number."""
    row = AppliedConfiguration
    query = select(row.id, row.at, row.by, row.why, row.digest).where(row.id == number)
    found = session.execute(query).first()
    return ConfigurationLine(*found) if found else None


def text_of(session: Session, number: int) -> str | None:
    """Return the text of an entry; None: there is no such entry."""
    return session.scalar(
        select(AppliedConfiguration.text).where(AppliedConfiguration.id == number)
    )


def record_reload(
    session: Session,
    at: datetime,
    host: str,
    *,
    taken: bool,
    digest: str | None,
    problems: Sequence[str] = (),
    needs_restart: Sequence[str] = (),
) -> None:
    """Note how a reload went, and tell the audit trail."""
    row = Reload(
        at=at,
        host=host,
        taken=taken,
        digest=digest,
        problems=list(problems),
        needs_restart=list(needs_restart),
    )
    session.add(row)
    session.flush()
    session.execute(delete(Reload).where(Reload.id <= row.id - _RELOADS_KEPT))
    if taken:
        audit.record(
            session,
            at,
            "configuration_reloaded",
            host=host,
            digest=digest,
            needs_restart=list(needs_restart),
        )
    else:
        first = problems[0] if problems else ""
        audit.record(
            session, at, "configuration_refused", host=host, problems=len(problems), why=first
        )


def last_reload(session: Session, host: str | None = None) -> ReloadLine | None:
    """Return how the last reload went; None: there was none."""
    query = select(
        Reload.id, Reload.at, Reload.taken, Reload.digest, Reload.problems, Reload.needs_restart
    ).order_by(Reload.id.desc())
    if host is not None:
        query = query.where(Reload.host == host)
    found = session.execute(query.limit(1)).first()
    return ReloadLine(*found) if found else None


def forget_reloads(session: Session, host: str) -> None:
    """A node starts with the file as it is: earlier reloads say nothing any more."""
    session.execute(delete(Reload).where(Reload.host == host))
