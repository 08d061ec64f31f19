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


class DeliveryState(StrEnum):
    """One object to one peer."""

    PENDING = "pending"
    SENT = "sent"
    COMMITTED = "committed"
    FAILED = "failed"


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
        DeliveryState.PENDING: frozenset({DeliveryState.SENT, DeliveryState.FAILED}),
        DeliveryState.SENT: frozenset({DeliveryState.COMMITTED, DeliveryState.PENDING}),
        DeliveryState.COMMITTED: frozenset({DeliveryState.PENDING}),
        DeliveryState.FAILED: frozenset({DeliveryState.PENDING}),
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
