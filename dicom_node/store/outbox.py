"""The outbox: which objects are due for a peer, and what the peer answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from dicom_node.model.states import DeliveryState
from dicom_node.store import audit, withheld
from dicom_node.store.tables import Delivery, Job, Report


def due(session: Session, peer: str, now: datetime, limit: int = 50) -> Sequence[Delivery]:
    """Return the deliveries that are due for a peer, oldest first.

    Those of a study that a late image has reopened, or whose patient is in doubt, wait.
    """
    return session.scalars(
        select(Delivery)
        .where(
            Delivery.peer == peer,
            Delivery.state == DeliveryState.PENDING,
            Delivery.next_attempt_at <= now,
            Delivery.report.has(Report.job.has(Job.study.has(withheld.is_current()))),
        )
        .options(joinedload(Delivery.report).joinedload(Report.job).joinedload(Job.study))
        .order_by(Delivery.id)
        .limit(limit)
    ).all()


def mark_sent(
    session: Session,
    delivery_id: int,
    answer: str,
    now: datetime,
    *,
    ask: bool = False,
    sent_as: str | None = None,
    **took: float,
) -> None:
    """The peer has stored the object (status 0x0000, or a warning that `answer` keeps).

    Args:
        ask: It is to be asked for storage commitment.
        sent_as: SOP Instance UID of the alternative that it got; None: the report itself.
        took: Seconds, for the audit trail.
    """
    delivery = _get(session, delivery_id)
    if _has_arrived(delivery):
        return
    delivery.ask_at = now if ask else None
    delivery.asked = 0
    delivery.sent_as = sent_as
    delivery.state = DeliveryState.SENT
    delivery.attempts += 1
    delivery.sent_at = now
    delivery.answer = answer
    record(session, delivery, "report_sent", now, **took)


def mark_again(
    session: Session, delivery_id: int, answer: str, now: datetime, next_attempt_at: datetime
) -> None:
    """The attempt failed and another is due."""
    delivery = _get(session, delivery_id)
    if _has_arrived(delivery):
        return
    delivery.attempts += 1
    delivery.answer = answer
    delivery.next_attempt_at = next_attempt_at
    record(session, delivery, "report_delayed", now, next_attempt_at=next_attempt_at.isoformat())


def wait(
    session: Session, delivery_id: int, why: str, now: datetime, next_attempt_at: datetime
) -> bool:
    """The object cannot be had at the moment, whoever it is for: that is no attempt.

    Returns:
        Whether that is new; only then it is told.
    """
    delivery = _get(session, delivery_id)
    delivery.next_attempt_at = next_attempt_at
    if delivery.answer == why:
        return False
    delivery.answer = why
    record(session, delivery, "report_delayed", now, next_attempt_at=next_attempt_at.isoformat())
    return True


def mark_failed(session: Session, delivery_id: int, answer: str, now: datetime) -> None:
    """The attempts are used up, or the peer will never take the object."""
    delivery = _get(session, delivery_id)
    if _has_arrived(delivery):
        return
    delivery.state = DeliveryState.FAILED
    delivery.attempts += 1
    delivery.answer = answer
    record(session, delivery, "report_failed", now)


def retry(session: Session, delivery: Delivery, now: datetime, **told: str) -> None:
    """Put a failed delivery back into the queue, due at once, its age counted anew.

    Args:
        told: Who asked for it, for the audit trail.
    """
    delivery.state = DeliveryState.PENDING
    delivery.queued_at = now
    delivery.next_attempt_at = now
    delivery.ask_at = None
    delivery.resent = 0
    record(session, delivery, "report_retried", now, **told)


def receivers(session: Session) -> set[str]:
    """Return the peers that something waits to be sent to."""
    waits = Delivery.state == DeliveryState.PENDING
    return set(session.scalars(select(Delivery.peer).where(waits).distinct()))


def committers(session: Session) -> set[str]:
    """Return the peers that are to commit to something; looks at all that was ever sent."""
    waits = (Delivery.state == DeliveryState.SENT) & Delivery.ask_at.is_not(None)
    return set(session.scalars(select(Delivery.peer).where(waits).distinct()))


def fail_all(session: Session, peer: str, why: str, now: datetime) -> int:
    """Give up what waits for a peer that is no more; returns the number."""
    waiting = session.scalars(
        select(Delivery.id).where(Delivery.peer == peer, Delivery.state == DeliveryState.PENDING)
    ).all()
    for delivery_id in waiting:
        mark_failed(session, delivery_id, why, now)
    return len(waiting)


def counts(session: Session) -> dict[str, dict[str, int]]:
    """Return the number of deliveries per peer and state."""
    found: dict[str, dict[str, int]] = {}
    what = (Delivery.peer, Delivery.state)
    for peer, state, number in session.execute(
        select(*what, func.count()).group_by(*what).order_by(*what)
    ):
        found.setdefault(peer, {})[state] = number
    return found


def _get(session: Session, delivery_id: int) -> Delivery:
    return session.get_one(
        Delivery,
        delivery_id,
        options=[joinedload(Delivery.report).joinedload(Report.job).joinedload(Job.study)],
        with_for_update={"of": Delivery},
    )


def _has_arrived(delivery: Delivery) -> bool:
    """The peer has it from another sender: of a coordinator that led before us, or does now."""
    return delivery.state in (DeliveryState.SENT, DeliveryState.COMMITTED)


def record(
    session: Session, delivery: Delivery, kind: str, now: datetime, **data: str | float
) -> None:
    """Write what became of a delivery into the audit trail."""
    audit.record(
        session,
        now,
        kind,
        study_uid=delivery.report.job.study.study_instance_uid,
        job_id=delivery.report.job_id,
        peer=delivery.peer,
        sop_instance_uid=delivery.report.sop_instance_uid,
        answer=delivery.answer,
        attempt=delivery.attempts,
        **data,
    )
