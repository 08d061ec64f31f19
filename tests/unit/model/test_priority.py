"""How urgent a job is: what images and routes state, the highest of it."""

from __future__ import annotations

import pytest

from dicom_node.model.priority import Priority, PriorityName, priority_of
from tests.factories import facts


@pytest.mark.parametrize(
    ("stated", "route", "expected"),
    [
        (None, None, Priority.ROUTINE),
        ("STAT", None, Priority.STAT),
        (" stat ", None, Priority.STAT),
        ("MEDIUM", None, Priority.ROUTINE),
        ("LOW", None, Priority.LOW),
        ("LOW", "stat", Priority.STAT),
        ("HIGH", "low", Priority.HIGH),
        ("AT ONCE", None, Priority.ROUTINE),
        (7, "high", Priority.HIGH),
    ],
)
def test_the_highest_that_is_stated_counts(
    stated: str | int | None, route: PriorityName | None, expected: Priority
) -> None:
    more = {} if stated is None else {"RequestedProcedurePriority": stated}
    assert priority_of([facts(), facts(**more)], [None, route]) == expected
