"""Does the audit trail stand as it was sealed? Every deviation is named."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.store import chain
from dicom_node.store.chain import FORGOTTEN, GENESIS, Link
from dicom_node.store.tables import AuditEvent
from dicom_node.store.watch_tables import AuditSeal

ACCEPTED: Final = "audit_deviations_accepted"
"""Kind of the event by which a person accepts deviations."""

_MOST: Final = 1000
"""Deviations that are kept for the report; all are counted."""
_EARLIER: Final = timedelta(hours=1)


class Deviation(StrEnum):
    """What is wrong with the chain."""

    CHANGED = "changed"
    MISSING = "missing"
    GAP = "gap"
    TAIL = "tail"
    ANOTHER_CHAIN = "another chain"
    BEGINNING = "beginning"


@dataclass(frozen=True, slots=True)
class Broken:
    """One deviation; `event_id` is of the row of `audit_events`, where one is concerned."""

    deviation: Deviation
    position: int
    event_id: int | None
    text: str


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes:
        events: Events that are there and stand as they were sealed.
        forgotten: Events that retention has taken, as the chain itself says.
        unsealed: Events that are not sealed yet.
        late: Events that were sealed after such as are an hour younger: the clock was put back,
            or somebody has written them afterwards.
        broken: The deviations, at most a thousand; `deviations` counts all.
        accepted: Deviations that a person has accepted; they are not among the others.
    """

    events: int = 0
    forgotten: int = 0
    unsealed: int = 0
    last: int = 0
    digest: str = GENESIS
    deviations: int = 0
    accepted: int = 0
    broken: list[Broken] = field(default_factory=list)
    late: list[int] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return self.deviations == 0

    def add(self, deviation: Deviation, position: int, event_id: int | None, text: str) -> None:
        self.deviations += 1
        if len(self.broken) < _MOST:
            self.broken.append(Broken(deviation, position, event_id, text))


class _Told:
    """What retention says it has taken: a chain of years has an event of each hour."""

    def __init__(self) -> None:
        self.anchors: set[Link] = set()
        self._ranges: list[tuple[int, int]] = []

    def add(self, data: Mapping[str, Any]) -> None:
        self._ranges = chain.merged([*self._ranges, *data["positions"]])
        if anchor := data.get("anchor"):
            self.anchors.add(Link(anchor["position"], anchor["digest"]))

    def has(self, position: int) -> bool:
        """Tell whether a position is among what was taken."""
        at = bisect_right(self._ranges, position, key=itemgetter(0))
        return at > 0 and position <= self._ranges[at - 1][1]


def verify(session: Session, noted: Link | None) -> Verdict:
    """Compute the whole chain again.

    Args:
        noted: The head as it was noted outside of the database; None: it was not.
    """
    verdict = Verdict(unsealed=chain.unsealed(session))
    missing: list[tuple[int, int]] = []
    told = _Told()
    for data in _unsealed_forgotten(session):
        told.add(data)
    previous: Link | None = None
    first: Link | None = None
    newest: datetime | None = None
    noted_digest: str | None = None
    for item in chain.sealed(session):
        link, event = item.link, item.event
        if noted is not None and link.position == noted.position:
            noted_digest = link.digest
        if previous is None and link.position > 1:
            # what comes before was forgotten: this seal is where the chain begins now
            first = previous = link
            if event is None:
                verdict.last, verdict.digest = link.position, link.digest
                continue
        before = previous or Link(0, GENESIS)
        if link.position != before.position + 1 and link is not first:
            verdict.add(
                Deviation.GAP,
                before.position + 1,
                None,
                f"the seals {before.position + 1} to {link.position - 1} were deleted",
            )
        elif event is None:
            missing.append((link.position, item.event_id))
        elif link is not first:
            if chain.digest_of(before.digest, link.position, event) != link.digest:
                verdict.add(
                    Deviation.CHANGED,
                    link.position,
                    event.id,
                    f"event {event.id} ({event.kind}) is not what was sealed: it was changed, "
                    "put there, or moved",
                )
            else:
                verdict.events += 1
                if event.kind == FORGOTTEN:
                    told.add(event.data)
        if event is not None:
            if newest is not None and event.at < newest - _EARLIER:
                verdict.late.append(event.id)
            newest = max(newest or event.at, event.at)
        previous = link
        verdict.last, verdict.digest = link.position, link.digest
    _judge_missing(verdict, missing, told)
    if first is not None:
        _judge_beginning(verdict, first, told)
    if noted is not None:
        _judge_head(verdict, noted, noted_digest)
    _leave_out_accepted(session, verdict)
    return verdict


def _leave_out_accepted(session: Session, verdict: Verdict) -> None:
    told = session.scalars(select(AuditEvent.data).where(AuditEvent.kind == ACCEPTED))
    accepted = {(kind, position) for data in told for kind, position in data["deviations"]}
    left = [item for item in verdict.broken if (item.deviation, item.position) not in accepted]
    verdict.accepted = len(verdict.broken) - len(left)
    verdict.deviations -= verdict.accepted
    verdict.broken = left


def _judge_missing(verdict: Verdict, missing: list[tuple[int, int]], told: _Told) -> None:
    for position, event_id in missing:
        if told.has(position):
            verdict.forgotten += 1
        else:
            text = f"event {event_id} was deleted, and not by retention"
            verdict.add(Deviation.MISSING, position, event_id, text)


def _judge_beginning(verdict: Verdict, first: Link, told: _Told) -> None:
    if first in told.anchors:
        verdict.forgotten += first.position
    else:
        verdict.add(
            Deviation.BEGINNING,
            first.position,
            None,
            f"the chain begins at position {first.position}, and not by retention",
        )


def _judge_head(verdict: Verdict, noted: Link, there: str | None) -> None:
    if noted.position > verdict.last:
        verdict.add(
            Deviation.TAIL,
            verdict.last + 1,
            None,
            f"the chain ends at {verdict.last}, and {noted.position} were sealed: "
            f"the last {noted.position - verdict.last} were deleted",
        )
    elif noted.position and there != noted.digest:
        verdict.add(
            Deviation.ANOTHER_CHAIN,
            noted.position,
            None,
            f"the seal at {noted.position} is not the one that was noted: the chain was made anew",
        )


def _unsealed_forgotten(session: Session) -> list[Mapping[str, Any]]:
    """What retention said just now, and is not sealed yet."""
    query = (
        select(AuditEvent.data)
        .outerjoin(AuditSeal, AuditSeal.event_id == AuditEvent.id)
        .where(AuditEvent.kind == FORGOTTEN, AuditSeal.position.is_(None))
    )
    return list(session.scalars(query))
