"""Storage commitment that we ask peers for, after we have sent them something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from dicom_node.model.commitment import CommitmentReport, Reference, reason_text
from dicom_node.model.states import DeliveryState
from dicom_node.store import outbox
from dicom_node.store.tables import AskedCommitment, Delivery, Job, Report

ASKS: Final = 3
"""Requests without a report, then the object is sent again."""
RESENDS: Final = 2
"""How often an object is sent again for want of commitment, then it is failed."""
_WITH_STUDY: Final = joinedload(Delivery.report).joinedload(Report.job).joinedload(Job.study)


def due(session: Session, peer: str, now: datetime, limit: int = 200) -> Sequence[Delivery]:
    """Return what a peer is to be asked about: for the first time, or in vain until now."""
    return session.scalars(
        select(Delivery)
        .where(Delivery.peer == peer, Delivery.state == DeliveryState.SENT, Delivery.ask_at <= now)
        .options(_WITH_STUDY)
        .order_by(Delivery.id)
        .limit(limit)
    ).all()


def uncommitted(session: Session, peer: str, limit: int = 200) -> Sequence[int]:
    """Return what a peer is still to commit to, asked about or not."""
    return session.scalars(
        select(Delivery.id)
        .where(
            Delivery.peer == peer,
            Delivery.state == DeliveryState.SENT,
            Delivery.ask_at.is_not(None),
        )
        .order_by(Delivery.id)
        .limit(limit)
    ).all()


def reference_of(delivery: Delivery) -> Reference:
    """Return what a delivery is called in a request: the form of it that the peer has."""
    report = delivery.report
    for other in report.alternatives or ():
        if other["sop_instance_uid"] == delivery.sent_as:
            return Reference(other["sop_class_uid"], other["sop_instance_uid"])
    return Reference(report.sop_class_uid, report.sop_instance_uid)


def begin(
    session: Session,
    delivery_ids: Sequence[int],
    request: AskedCommitment,
    until: datetime,
) -> None:
    """Keep a request before it is made, as its report may come at once."""
    session.add(request)
    for delivery in _named(session, delivery_ids):
        delivery.transaction_uid = request.transaction_uid
        delivery.asked += 1
        delivery.ask_at = until
        outbox.record(
            session,
            delivery,
            "commitment_asked",
            request.requested_at,
            transaction_uid=request.transaction_uid,
        )


def ask_later(
    session: Session, delivery_ids: Sequence[int], why: str, now: datetime, at: datetime
) -> None:
    """The peer could not be asked, or did not take the request."""
    for delivery in _named(session, delivery_ids):
        delivery.ask_at = at
        outbox.record(session, delivery, "commitment_ask_delayed", now, why=why)


def ask_no_more(session: Session, delivery_ids: Sequence[int], why: str, now: datetime) -> None:
    """The peer has no storage commitment, or is not to be asked: "sent" is all that is known."""
    for delivery in _named(session, delivery_ids):
        delivery.ask_at = None
        delivery.answer = f"{delivery.answer or 'sent'}; {why}"
        outbox.record(session, delivery, "commitment_not_offered", now)


def give_up(session: Session, delivery_ids: Sequence[int], why: str, now: datetime) -> None:
    """The peer is no more: what it has not committed to is failed, whatever it has stored."""
    for delivery in _named(session, delivery_ids):
        delivery.ask_at = None
        delivery.answer = why
        delivery.state = DeliveryState.FAILED
        outbox.record(session, delivery, "report_failed", now)


def send_again(
    session: Session, delivery_ids: Sequence[int], why: str, now: datetime, wait: timedelta
) -> tuple[int, int]:
    """Send objects again that the peer does not commit to; fail those that were, often enough.

    Returns:
        How many are sent again, and how many are failed.
    """
    failed = 0
    deliveries = _named(session, delivery_ids)
    for delivery in deliveries:
        delivery.ask_at = None
        delivery.answer = why
        if delivery.resent >= RESENDS:
            failed += 1
            delivery.state = DeliveryState.FAILED
            outbox.record(session, delivery, "report_failed", now)
            continue
        delivery.state = DeliveryState.PENDING
        delivery.resent += 1
        delivery.queued_at = now
        delivery.next_attempt_at = now + wait * 2 ** (delivery.resent - 1)
        outbox.record(session, delivery, "report_not_committed", now)
    return len(deliveries) - failed, failed


@dataclass(frozen=True, slots=True)
class Told:
    """What a peer's report has changed: numbers of objects."""

    peer: str
    committed: int
    sent_again: int
    failed: int


def told(
    session: Session, calling_ae: str, report: CommitmentReport, now: datetime, wait: timedelta
) -> Told | None:
    """Take a peer's report; a late one, or the same again, changes only what it still can.

    Args:
        wait: Before an object that failed is sent again.

    Returns:
        None: this peer was not asked under this Transaction UID.
    """
    request = session.scalar(
        select(AskedCommitment).where(
            AskedCommitment.transaction_uid == report.transaction_uid,
            AskedCommitment.ae_title == calling_ae,
        )
    )
    if request is None:
        return None
    asked = {Reference(*item) for item in request.references}
    uids = [reference.sop_instance_uid for reference in asked]
    rows = session.scalars(
        select(Delivery)
        .join(Delivery.report)
        .where(
            Delivery.peer == request.peer,
            # failed: for want of this report
            Delivery.state.in_((DeliveryState.SENT, DeliveryState.FAILED)),
            func.coalesce(Delivery.sent_as, Report.sop_instance_uid).in_(uids),
        )
        .options(_WITH_STUDY)
        .with_for_update(of=Delivery)
    ).all()
    committed = again = failed = 0
    for delivery in rows:
        reference = reference_of(delivery)
        if reference in report.committed and reference in asked:
            committed += 1
            if delivery.state == DeliveryState.FAILED:
                delivery.answer = "committed, as the peer said when it had been given up"
            delivery.state = DeliveryState.COMMITTED
            delivery.ask_at = None
            outbox.record(
                session,
                delivery,
                "report_committed",
                now,
                transaction_uid=report.transaction_uid,
            )
        elif (
            reference in report.failed
            and delivery.transaction_uid == report.transaction_uid
            and delivery.state == DeliveryState.SENT
        ):
            why = f"not committed: {reason_text(report.failed[reference])}"
            more, lost = send_again(session, [delivery.id], why, now, wait)
            again, failed = again + more, failed + lost
    request.answered_at = now
    request.answer = f"{len(report.committed)} committed, {len(report.failed)} failed"
    return Told(request.peer, committed, again, failed)


def _named(session: Session, delivery_ids: Sequence[int]) -> Sequence[Delivery]:
    """The deliveries that are still sent and wait: a report may have come meanwhile."""
    return session.scalars(
        select(Delivery)
        .where(Delivery.id.in_(delivery_ids), Delivery.state == DeliveryState.SENT)
        .options(_WITH_STUDY)
        .with_for_update(of=Delivery)
    ).all()
