"""How urgent a job is, in the words of Requested Procedure Priority (0040,1003)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Literal

from dicom_node.model.instances import InstanceFacts

PriorityName = Literal["stat", "high", "routine", "low"]


class Priority(IntEnum):
    """A job of a higher one overtakes those that wait."""

    LOW = -1
    ROUTINE = 0
    HIGH = 1
    STAT = 2


_TERMS: Final = {"MEDIUM": Priority.ROUTINE, **{item.name: item for item in Priority}}


def priority_of(facts: Iterable[InstanceFacts], routes: Iterable[PriorityName | None]) -> Priority:
    """Return the highest that an image or a route states; nothing stated is routine.

    The terms are those of PS3.3 C.4.11: STAT, HIGH, ROUTINE, MEDIUM, LOW.
    """
    stated = [_TERMS.get(name.upper()) for name in routes if name]
    for item in facts:
        term = item.attributes.get("RequestedProcedurePriority")
        stated.append(_TERMS.get(term.strip().upper()) if isinstance(term, str) else None)
    return max((item for item in stated if item is not None), default=Priority.ROUTINE)
