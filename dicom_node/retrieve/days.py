"""All studies of a day, although a peer gives only so many matches at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from dicom_node.retrieve.found import FoundStudies, FoundStudy, StudyQuery

_SHORTEST: Final = 60
"""Seconds: a part of a day that is cut although it is no longer is told as cut."""
_HOUR: Final = 3600

Ask = Callable[[StudyQuery], FoundStudies]


@dataclass(frozen=True, slots=True)
class StudiesOfDay:
    """The studies of a day and modality.

    Attributes:
        cut: Not all of them: the peer cuts its list even for the shortest part of the day, or
            gives the same for every part.
    """

    studies: list[FoundStudy]
    cut: bool


def studies_of_day(ask: Ask, day: date, modality: str) -> StudiesOfDay:
    """Ask for a day; where the list is cut, or looks so, ask for each half of it.

    A match of another day is dropped: there are peers that ignore the key. One that does not say
    its date is kept.
    """
    query = StudyQuery(day, modality)
    found: dict[str, FoundStudy] = {}
    cut = _follow(ask, query, ask(query), found)
    return StudiesOfDay([item for item in found.values() if item.day in (None, day)], cut)


def looks_cut(number: int) -> bool:
    """Tell whether a number of matches is what a limit would leave: 50, 100, 256, 500 …"""
    return number >= 50 and (number % 50 == 0 or number & (number - 1) == 0)


def _follow(
    ask: Ask, query: StudyQuery, answer: FoundStudies, found: dict[str, FoundStudy]
) -> bool:
    found.update((item.study_instance_uid, item) for item in answer.studies)
    if not answer.cut and not looks_cut(len(answer.studies)):
        return False
    halves = _halves(query)
    if not halves:
        return answer.cut
    answers = [ask(half) for half in halves]
    first, second = ({item.study_instance_uid for item in part.studies} for part in answers)
    if first == second and (first or _seconds(query.end) - _seconds(query.begin) < _HOUR):
        return True  # it ignores Study Time: asking for shorter parts brings nothing
    # each of them is asked, whatever came of the first
    cut = [_follow(ask, half, part, found) for half, part in zip(halves, answers, strict=True)]
    return any(cut)


def _halves(query: StudyQuery) -> list[StudyQuery]:
    begin, end = _seconds(query.begin), _seconds(query.end)
    if end - begin < _SHORTEST:
        return []
    middle = _time((begin + end) // 2)
    # both hold the second between them: a fraction of it may not match its own whole second
    return [replace(query, end=middle), replace(query, begin=middle)]


def _seconds(time: str) -> int:
    return int(time[:2]) * 3600 + int(time[2:4]) * 60 + int(time[4:6])


def _time(seconds: int) -> str:
    return f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"
