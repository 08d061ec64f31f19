"""The audit trail's chain: each event sealed with a digest over it and all that came before.

Events are written by several processes, and become visible in an order that nobody foresees. They
are therefore sealed shortly afterwards, by one process, in the order in which it finds them: the
position in the chain is counted anew, without gaps, and is no part of the event's own row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Select, delete, func, insert, or_, select
from sqlalchemy.orm import Session

from dicom_node.store import audit
from dicom_node.store.tables import AuditEvent, Study
from dicom_node.store.watch_tables import AuditSeal

FORGOTTEN: Final = "audit_events_forgotten"
"""Kind of the event that says which positions retention has taken, and where the chain begins.

Each says all that was taken behind the beginning that it names: the newest tells of everything.
"""

GENESIS: Final = "0" * 64
"""The digest before the first event."""

_LATE: Final = 1000
"""How far behind the newest sealed event one may become visible that was begun before it."""
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Link:
    """A place in the chain; position 0 is before the first event."""

    position: int
    digest: str


def digest_of(previous: str, position: int, event: AuditEvent | Any) -> str:
    """Return the digest of an event at a place in the chain (SHA-256, hexadecimal).

    Args:
        event: Anything with the attributes of an `AuditEvent`.
    """
    content = {
        "previous": previous,
        "position": position,
        "id": event.id,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": event.kind,
        "study_uid": event.study_uid,
        "job_id": event.job_id,
        "peer": event.peer,
        "data": event.data,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def head(session: Session) -> Link:
    """Return the last link of the chain."""
    row = session.execute(
        select(AuditSeal.position, AuditSeal.digest).order_by(AuditSeal.position.desc()).limit(1)
    ).first()
    return Link(row.position, row.digest) if row else Link(0, GENESIS)


def beginning(session: Session) -> int:
    """Return the position of the first link that is there; 0: there is none."""
    return session.scalar(select(func.min(AuditSeal.position))) or 0


def link_at(session: Session, position: int) -> Link | None:
    """Return the link at a position, if there is one."""
    digest = session.scalar(select(AuditSeal.digest).where(AuditSeal.position == position))
    return None if digest is None else Link(position, digest)


def next_links(
    session: Session, *, limit: int = 500, thorough: bool = False
) -> list[dict[str, Any]]:
    """Compute the seals of events that have none, for `put`; nothing is written.

    Args:
        thorough: Look at all events, not only at those near the end.
    """
    last = head(session)
    query = _unsealed(session, thorough, *audit.COLUMNS).order_by(AuditEvent.id).limit(limit)
    rows = session.execute(query).all()
    new = []
    for row in rows:
        position = last.position + 1
        last = Link(position, digest_of(last.digest, position, row))
        new.append({"position": position, "event_id": row.id, "digest": last.digest})
    return new


def put(session: Session, links: Sequence[dict[str, Any]]) -> None:
    """Add what `next_links` has computed; another who did the same meanwhile makes it fail."""
    if links:
        session.execute(insert(AuditSeal), links)


def unsealed(session: Session) -> int:
    """Return how many events have no place in the chain (yet)."""
    return session.scalar(_unsealed(session, True, func.count(AuditEvent.id))) or 0


def _unsealed(session: Session, thorough: bool, *columns: Any) -> Select[Any]:
    query = (
        select(*columns)
        .select_from(AuditEvent)
        .outerjoin(AuditSeal, AuditSeal.event_id == AuditEvent.id)
        .where(AuditSeal.position.is_(None))
    )
    if thorough:
        return query
    newest = session.scalar(select(AuditSeal.event_id).order_by(AuditSeal.position.desc()).limit(1))
    return query.where(AuditEvent.id > (newest or 0) - _LATE)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A link with its event; `event` is a row with the attributes of an `AuditEvent`, or None."""

    link: Link
    event_id: int
    event: Any | None


def sealed(session: Session, after: int = 0, limit: int | None = None) -> Iterator[Sealed]:
    """Yield the chain's links behind a position, in order."""
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        rows = session.execute(
            select(AuditSeal.position, AuditSeal.digest, AuditSeal.event_id, *audit.COLUMNS)
            .outerjoin(AuditEvent, AuditEvent.id == AuditSeal.event_id)
            .where(AuditSeal.position > after)
            .order_by(AuditSeal.position)
            .limit(size)
        ).all()
        for row in rows:
            there = row if row.id is not None else None
            yield Sealed(Link(row.position, row.digest), row.event_id, there)
        if len(rows) < size:
            return
        after = rows[-1].position
        left = None if left is None else left - len(rows)


def forget(session: Session, before: datetime, now: datetime, *, up_to: int | None = None) -> int:
    """Delete events of studies that are not in the index, and of none, before a time.

    The chain stays whole: a new event says which positions are gone. Where all before a position
    are gone, their seals go too, and the last of them is the chain's new beginning.

    Args:
        up_to: The last position that may go; None: each that is sealed.
    """
    known = select(Study.study_instance_uid)
    query = (
        select(AuditSeal.position, AuditEvent.id)
        .join(AuditEvent, AuditEvent.id == AuditSeal.event_id)
        .where(
            AuditEvent.at < before,
            or_(AuditEvent.study_uid.is_(None), AuditEvent.study_uid.not_in(known)),
        )
        .order_by(AuditSeal.position)
    )
    if up_to is not None:
        query = query.where(AuditSeal.position <= up_to)
    gone = session.execute(query).all()
    if not gone:
        return 0
    last = _last_forgotten(session)
    taken = merged([*last["positions"], *((row.position, row.position) for row in gone)])
    # a beginning that no event tells of is none of ours, and must stay as conspicuous as it is
    anchor = last["anchor"]
    begins = _end_of_taken(taken, anchor["position"] if anchor else 0)
    # without its seal, the last event's beginning stays the one that is told
    if (link := link_at(session, begins)) is not None:
        anchor = {"position": link.position, "digest": link.digest}
    begins = anchor["position"] if anchor else 0
    audit.record(
        session,
        now,
        FORGOTTEN,
        before=before.isoformat(),
        events=len(gone),
        positions=[[max(first, begins + 1), end] for first, end in taken if end > begins],
        anchor=anchor,
    )
    # first the new event: a database may give the number of the last row once more
    session.flush()
    ids = [row.id for row in gone]
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        session.execute(
            delete(AuditEvent)
            .where(AuditEvent.id.in_(page))
            .execution_options(synchronize_session=False)
        )
    session.execute(
        delete(AuditSeal)
        .where(AuditSeal.position < begins)
        .execution_options(synchronize_session=False)
    )
    return len(ids)


def merged(ranges: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Return ranges, each a first and a last position, in order and without what is twice."""
    found: list[tuple[int, int]] = []
    for first, last in sorted((first, last) for first, last in ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _last_forgotten(session: Session) -> Mapping[str, Any]:
    """What the newest event says that tells of all that was taken."""
    newest = session.scalar(
        select(AuditEvent.data)
        .where(AuditEvent.kind == FORGOTTEN)
        .order_by(AuditEvent.id.desc())
        .limit(1)
    )
    return newest or {"positions": [], "anchor": None}


def _end_of_taken(taken: Sequence[tuple[int, int]], anchor: int) -> int:
    """Return up to where all behind a position was taken."""
    return next((last for first, last in taken if first <= anchor + 1 <= last), anchor)
