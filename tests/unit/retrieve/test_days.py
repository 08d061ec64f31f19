"""All studies of a day, from peers that cut, ignore keys or tell only part of them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.retrieve.days import looks_cut, studies_of_day
from dicom_node.retrieve.found import FoundStudies, FoundStudy, StudyQuery

DAY = date(2026, 10, 1)


class Peer:
    """Answers for one day; seconds of the day by Study Instance UID."""

    def __init__(
        self,
        times: dict[str, int],
        *,
        limit: int = 10**6,
        tells: bool = True,
        knows_times: bool = True,
        day: date | None = DAY,
    ) -> None:
        self.times = times
        self.limit = limit
        self.tells = tells
        self.knows_times = knows_times
        self.day = day
        self.asked: list[StudyQuery] = []

    def ask(self, query: StudyQuery) -> FoundStudies:
        self.asked.append(query)
        first, last = seconds(query.begin), seconds(query.end)
        found = [
            FoundStudy(uid, self.day)
            for uid, at in self.times.items()
            if not self.knows_times or first <= at <= last
        ]
        return FoundStudies(found[: self.limit], self.tells and len(found) > self.limit)


def seconds(text: str) -> int:
    return int(text[:2]) * 3600 + int(text[2:4]) * 60 + int(text[4:6])


def spread(number: int, over: int = 86400) -> dict[str, int]:
    return {f"1.2.{index}": index * over // number for index in range(number)}


def test_one_question_is_enough_for_a_day_that_is_told_whole() -> None:
    peer = Peer(spread(33))
    found = studies_of_day(peer.ask, DAY, "DX")
    assert len(found.studies) == 33
    assert not found.cut
    assert [query.time_range for query in peer.asked] == [""]


@pytest.mark.parametrize("tells", [True, False])
def test_a_list_that_is_cut_is_asked_for_in_parts(tells: bool) -> None:
    peer = Peer(spread(730), limit=100, tells=tells)
    found = studies_of_day(peer.ask, DAY, "DX")
    assert {item.study_instance_uid for item in found.studies} == set(peer.times)
    assert not found.cut


@pytest.mark.parametrize("tells", [True, False])
def test_a_peer_that_ignores_the_time_of_day_is_told_of(tells: bool) -> None:
    peer = Peer(spread(730), limit=100, tells=tells, knows_times=False)
    found = studies_of_day(peer.ask, DAY, "DX")
    assert found.cut
    assert len(peer.asked) == 3


def test_a_minute_with_more_than_the_limit_is_told_of() -> None:
    peer = Peer({f"1.2.{index}": 3600 for index in range(30)}, limit=10)
    found = studies_of_day(peer.ask, DAY, "DX")
    assert found.cut
    assert len(peer.asked) < 60


def test_a_round_number_that_is_all_costs_few_questions() -> None:
    peer = Peer(spread(100))
    found = studies_of_day(peer.ask, DAY, "DX")
    assert len(found.studies) == 100
    assert not found.cut
    assert len(peer.asked) <= 7


@pytest.mark.parametrize(("said", "kept"), [(DAY, 3), (None, 3), (DAY + timedelta(1), 0)])
def test_studies_of_another_day_are_dropped(said: date | None, kept: int) -> None:
    peer = Peer(spread(3), day=said)
    assert len(studies_of_day(peer.ask, DAY, "DX").studies) == kept


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 86399), max_size=200, unique_by=lambda at: at // 61),
    st.integers(3, 60),
)
def test_nothing_is_missed_whatever_the_limit(times: list[int], limit: int) -> None:
    peer = Peer({f"1.2.{index}": at for index, at in enumerate(times)}, limit=limit)
    found = studies_of_day(peer.ask, DAY, "DX")
    assert {item.study_instance_uid for item in found.studies} == set(peer.times)
    assert not found.cut


@pytest.mark.parametrize(
    ("number", "cut"), [(0, False), (32, False), (49, False), (50, True), (256, True), (257, False)]
)
def test_limits_are_recognised(number: int, cut: bool) -> None:
    assert looks_cut(number) is cut


def test_parts_of_a_day_have_no_gap() -> None:
    ranges: list[str] = []

    def ask(query: StudyQuery) -> FoundStudies:
        ranges.append(query.time_range)
        return FoundStudies([], cut=query.time_range == "")

    studies_of_day(ask, DAY, "DX")
    assert ranges == ["", "-115959", "115959-"]
