"""The states of studies, jobs and deliveries, and which change may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dicom_node.errors import TransitionError


class StudyState(StrEnum):
    """A study is receiving until no image has come for the quiet time, then settled."""

    RECEIVING = "receiving"
    SETTLED = "settled"


class JobState(StrEnum):
    """One pipeline on one settled study."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    NOT_EVALUATED = "not_evaluated"
    FAILED = "failed"


class HoldReason(StrEnum):
    """Why a study waits for a person.

    CHANGED_PATIENT: images of it name another patient than those before. QUARANTINED: its jobs
    took down too many workers. IMAGES_PURGED: only a part of its images is there any more.
    ROUTING_FAILED: routing raised an error, so nobody knows what should run on it. BY_PERSON:
    somebody put it aside.
    """

    CHANGED_PATIENT = "changed_patient"
    QUARANTINED = "quarantined"
    IMAGES_PURGED = "images_purged"
    ROUTING_FAILED = "routing_failed"
    BY_PERSON = "by_person"


class RetrievalState(StrEnum):
    """One study of one peer; "pulling" of a process that died is begun again."""

    PULLING = "pulling"
    PULLED = "pulled"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """One object to one peer; superseded: a newer report took its place before it was sent."""

    PENDING = "pending"
    SENT = "sent"
    COMMITTED = "committed"
    FAILED = "failed"
    SUPERSEDED = "superseded"


# by kind first: "failed" of a job and "failed" of a delivery are equal texts
_ALLOWED: Mapping[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = {
    StudyState: {
        StudyState.RECEIVING: frozenset({StudyState.SETTLED}),
        StudyState.SETTLED: frozenset({StudyState.RECEIVING}),
    },
    JobState: {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED}),
        # back to queued: its worker died, or the attempt failed and another is due
        JobState.RUNNING: frozenset(
            {JobState.DONE, JobState.NOT_EVALUATED, JobState.FAILED, JobState.QUEUED}
        ),
        JobState.DONE: frozenset({JobState.QUEUED}),
        JobState.NOT_EVALUATED: frozenset({JobState.QUEUED}),
        JobState.FAILED: frozenset({JobState.QUEUED}),
    },
    DeliveryState: {
        DeliveryState.PENDING: frozenset(
            {DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.SUPERSEDED}
        ),
        # pending: the peer did not commit to it, it is sent again; failed: that was in vain, too
        DeliveryState.SENT: frozenset(
            {DeliveryState.COMMITTED, DeliveryState.PENDING, DeliveryState.FAILED}
        ),
        DeliveryState.COMMITTED: frozenset({DeliveryState.PENDING}),
        # committed: the peer had it, and said so too late
        DeliveryState.FAILED: frozenset(
            {DeliveryState.PENDING, DeliveryState.SUPERSEDED, DeliveryState.COMMITTED}
        ),
        # sent, failed: it was on its way when it was withdrawn
        DeliveryState.SUPERSEDED: frozenset(
            {DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.FAILED}
        ),
    },
}


def check_transition(what: str, old: StrEnum, new: StrEnum) -> None:
    """Refuse a state change that the table does not allow.

    Args:
        what: The thing whose state changes, for the message ("job 12").

    Raises:
        TransitionError: `new` may not follow `old`.
    """
    may = _ALLOWED[type(old)][old]
    if type(new) is not type(old) or new not in may:
        allowed = ", ".join(sorted(may))
        raise TransitionError(
            what, f"it is {old} and may not become {new}", f"from {old} it may become: {allowed}"
        )
