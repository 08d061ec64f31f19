"""How peers answered when they were last asked whether they are there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.store.watch_tables import PeerLook


@dataclass(frozen=True, slots=True)
class PeerLookLine:
    """One peer: `trouble` is why it does not answer, since `since`; None: it does."""

    peer: str
    at: datetime
    since: datetime
    trouble: str | None
    certificate_ends_at: datetime | None


def note_look(
    session: Session,
    peer: str,
    trouble: str | None,
    now: datetime,
    certificate_ends_at: datetime | None = None,
) -> None:
    """Keep how a peer answered."""
    row = session.get(PeerLook, peer)
    if row is None:
        row = PeerLook(peer=peer, since=now)
        session.add(row)
    elif (row.trouble is None) != (trouble is None):
        row.since = now
    row.at = now
    row.trouble = trouble
    if certificate_ends_at is not None:
        row.certificate_ends_at = certificate_ends_at


def peer_looks(session: Session) -> dict[str, PeerLookLine]:
    """Return the last look at each peer."""
    rows = session.execute(
        select(
            PeerLook.peer,
            PeerLook.at,
            PeerLook.since,
            PeerLook.trouble,
            PeerLook.certificate_ends_at,
        )
    )
    return {row.peer: PeerLookLine(*row) for row in rows}
