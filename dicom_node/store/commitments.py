"""Storage commitment requests: kept until the peer has confirmed the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from dicom_node.model.commitment import (
    CommitmentRequest,
    CommitmentResult,
    CommitmentState,
    FailureReason,
    Reference,
)
from dicom_node.store import audit
from dicom_node.store.tables import Commitment, Instance

_IN_ONE_QUERY = 500


def take(session: Session, request: CommitmentRequest, now: datetime, held: timedelta) -> bool:
    """Keep a request; asked again, the same is verified and reported again.

    Args:
        held: For so long the report is left to the association of the request.

    Returns:
        False: the transaction UID belongs to another request of this peer.
    """
    references = [list(reference) for reference in request.references]
    known = find(session, request.calling_ae, request.transaction_uid)
    if known is not None and known.references != references:
        return False
    row = known or Commitment(
        transaction_uid=request.transaction_uid,
        calling_ae=request.calling_ae,
        called_ae=request.called_ae,
        references=references,
    )
    row.state = CommitmentState.REQUESTED
    row.requested_at = now
    row.held, row.not_before = True, now + held
    row.attempts, row.answer = 0, None
    session.add(row)
    _record(session, row, "commitment_requested", now, instances=len(references))
    return True


def find(session: Session, calling_ae: str, transaction_uid: str) -> Commitment | None:
    """Return a peer's request."""
    return session.scalar(
        select(Commitment).where(
            Commitment.calling_ae == calling_ae, Commitment.transaction_uid == transaction_uid
        )
    )


def requested(session: Session) -> Sequence[Commitment]:
    """Return the requests that were not looked into yet, oldest first."""
    return session.scalars(
        select(Commitment)
        .where(Commitment.state == CommitmentState.REQUESTED)
        .order_by(Commitment.id)
    ).all()


def due(session: Session, now: datetime) -> Sequence[Commitment]:
    """Return the results that are due for an association of our own, oldest first.

    One that was requested in the future is due, too: the clock was put back since.
    """
    return session.scalars(
        select(Commitment)
        .where(
            Commitment.state == CommitmentState.VERIFIED,
            or_(Commitment.not_before <= now, Commitment.requested_at > now),
        )
        .order_by(Commitment.id)
    ).all()


def kept(session: Session, references: Iterable[Reference]) -> Mapping[str, Instance]:
    """Return the instances among some that are there, by SOP Instance UID."""
    found = _instances(session, references)
    return {uid: row for uid, row in found.items() if row.purged_at is None}


def _instances(session: Session, references: Iterable[Reference]) -> dict[str, Instance]:
    uids = sorted({reference.sop_instance_uid for reference in references})
    found: dict[str, Instance] = {}
    for start in range(0, len(uids), _IN_ONE_QUERY):
        part = uids[start : start + _IN_ONE_QUERY]
        for row in session.scalars(select(Instance).where(Instance.sop_instance_uid.in_(part))):
            found[row.sop_instance_uid] = row
    return found


def verified(
    session: Session, row: Commitment, failed: Mapping[Reference, FailureReason], now: datetime
) -> None:
    """Note which instances are not safe; all others are, and are promised from now on.

    One that was purged since it was looked at is not safe any more.
    """
    references = [Reference(*item) for item in row.references]
    rows = _instances(session, [item for item in references if item not in failed])
    gone = dict(failed)
    for item in references:
        instance = rows.get(item.sop_instance_uid)
        if instance is not None and instance.purged_at is not None:
            gone[item] = FailureReason.NO_SUCH_INSTANCE
        elif instance is not None:
            instance.promised_at = instance.promised_at or now
    failed = gone
    row.failed = [[*reference, int(reason)] for reference, reason in failed.items()]
    row.state = CommitmentState.VERIFIED
    committed = len(row.references) - len(row.failed)
    _record(session, row, "commitment_verified", now, committed=committed, failed=len(failed))


def begin_report(row: Commitment, now: datetime, within: timedelta) -> bool:
    """Take a result for an attempt of our own, for so long; False: it is not due any more."""
    put_back = row.requested_at > now
    if row.state != CommitmentState.VERIFIED or not (row.not_before <= now or put_back):
        return False
    row.requested_at = min(row.requested_at, now)
    row.held, row.not_before = False, now + within
    return True


def reported(session: Session, row: Commitment, answer: str, now: datetime) -> None:
    """The peer has confirmed the report."""
    row.state = CommitmentState.REPORTED
    row.attempts += 1
    row.answer = answer
    _record(session, row, "commitment_reported", now, answer=answer)


def again(session: Session, row: Commitment, answer: str, now: datetime, at: datetime) -> None:
    """The peer could not be told; another attempt is due."""
    row.attempts += 1
    row.answer = answer
    row.not_before = at
    _record(session, row, "commitment_delayed", now, answer=answer)


def give_up(session: Session, row: Commitment, answer: str, now: datetime) -> None:
    """The peer is not told; it will keep its images, or ask again."""
    row.state = CommitmentState.FAILED
    row.attempts += 1
    row.answer = answer
    _record(session, row, "commitment_failed", now, answer=answer)


def result_of(row: Commitment) -> CommitmentResult:
    """Return what is to be told of a verified request."""
    failed = [
        (Reference(sop_class, sop), FailureReason(int(reason)))
        for sop_class, sop, reason in row.failed or []
    ]
    lost = {reference for reference, _ in failed}
    committed = [Reference(*item) for item in row.references]
    return CommitmentResult(
        transaction_uid=row.transaction_uid,
        calling_ae=row.calling_ae,
        called_ae=row.called_ae,
        committed=[reference for reference in committed if reference not in lost],
        failed=failed,
    )


def _record(session: Session, row: Commitment, kind: str, now: datetime, **data: Any) -> None:
    audit.record(
        session, now, kind, peer=row.calling_ae, transaction_uid=row.transaction_uid, **data
    )
