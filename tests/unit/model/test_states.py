"""States: exactly the changes of the table are allowed, and the tables enforce it."""

from __future__ import annotations

from enum import StrEnum
from itertools import product

import pytest

from dicom_node.errors import TransitionError
from dicom_node.model.states import DeliveryState, JobState, StudyState, check_transition
from dicom_node.store.tables import Delivery, Job, Study

ALLOWED: set[tuple[StrEnum, StrEnum]] = {
    (StudyState.RECEIVING, StudyState.SETTLED),
    (StudyState.SETTLED, StudyState.RECEIVING),
    (JobState.QUEUED, JobState.RUNNING),
    (JobState.QUEUED, JobState.FAILED),
    (JobState.RUNNING, JobState.DONE),
    (JobState.RUNNING, JobState.NOT_EVALUATED),
    (JobState.RUNNING, JobState.FAILED),
    (JobState.RUNNING, JobState.QUEUED),
    (JobState.DONE, JobState.QUEUED),
    (JobState.NOT_EVALUATED, JobState.QUEUED),
    (JobState.FAILED, JobState.QUEUED),
    (DeliveryState.PENDING, DeliveryState.SENT),
    (DeliveryState.PENDING, DeliveryState.FAILED),
    (DeliveryState.SENT, DeliveryState.COMMITTED),
    (DeliveryState.SENT, DeliveryState.PENDING),
    (DeliveryState.SENT, DeliveryState.FAILED),
    (DeliveryState.COMMITTED, DeliveryState.PENDING),
    (DeliveryState.FAILED, DeliveryState.PENDING),
    (DeliveryState.FAILED, DeliveryState.COMMITTED),
    (DeliveryState.PENDING, DeliveryState.SUPERSEDED),
    (DeliveryState.FAILED, DeliveryState.SUPERSEDED),
    (DeliveryState.SUPERSEDED, DeliveryState.PENDING),
    (DeliveryState.SUPERSEDED, DeliveryState.SENT),
    (DeliveryState.SUPERSEDED, DeliveryState.FAILED),
}
KINDS = (StudyState, JobState, DeliveryState)
PAIRS = [pair for kind in KINDS for pair in product(kind, kind) if pair[0] != pair[1]]
TABLES = {StudyState: Study, JobState: Job, DeliveryState: Delivery}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_row_changes_its_state_as_the_table_allows_and_no_other_way(
    old: StrEnum, new: StrEnum
) -> None:
    row = TABLES[type(old)](state=old)
    if (old, new) in {(a, b) for a, b in ALLOWED if type(a) is type(old)}:
        row.state = new
        assert row.state == new
    else:
        with pytest.raises(TransitionError, match=f"it is {old} and may not become {new}") as told:
            row.state = new
        assert told.value.fix.startswith(f"from {old} it may become: ")
        assert row.state == old


@pytest.mark.parametrize("state", [state for kind in KINDS for state in kind])
def test_staying_in_a_state_is_always_allowed(state: StrEnum) -> None:
    row = TABLES[type(state)](state=state)
    row.state = state
    assert row.state == state


def test_the_same_word_of_another_kind_of_thing_is_another_state() -> None:
    """A failed job is queued again, a failed delivery is pending again."""
    check_transition("job 1", JobState.FAILED, JobState.QUEUED)
    check_transition("delivery 1", DeliveryState.FAILED, DeliveryState.PENDING)
    with pytest.raises(TransitionError):
        check_transition("job 1", JobState.FAILED, DeliveryState.PENDING)


def test_a_state_read_from_the_database_is_checked_like_any_other() -> None:
    row = Job(state="done")
    with pytest.raises(TransitionError):
        row.state = JobState.FAILED
