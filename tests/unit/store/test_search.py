"""Finding studies: by words, by what became of them, in both ways of asking."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.store import search
from dicom_node.store.database import Database
from dicom_node.store.index import Arrival, add_instance
from dicom_node.store.search import Condition, Wanted
from tests.factories import ManualClock, facts

NUMBER = 12


@pytest.fixture
def filled(database: Database) -> Database:
    """Twelve studies: Doe1^Jane of XR, Doe2^Jane of CT, Doe3^Jane of XR …"""
    clock = ManualClock()
    with database.write() as session:
        for number in range(1, NUMBER + 1):
            uid = f"1.2.840.{number}"
            item = facts(
                study=uid,
                series=f"{uid}.1",
                sop=f"{uid}.1.1",
                sender="XR" if number % 2 else "CT",
                PatientName=f"Doe{number}^Jane",
                PatientID=f"P{number:03}",
                AccessionNumber=f"ACC{number}",
                StudyDate=f"202601{number:02}",
            )
            now = clock.now()
            add_instance(session, Arrival(item, f"{number}.dcm", f"{number:064}", now), now)
    return database


def _found(database: Database, wanted: Wanted) -> list[int]:
    with database.read() as session:
        found = search.find(session, wanted)
    return [int(line.study_uid.rpartition(".")[2]) for line in found.lines]


ASKED = (
    (Wanted(), list(range(12, 0, -1))),
    (Wanted(text="doe3"), [3]),
    (Wanted(text="DOE1 jane"), [12, 11, 10, 1]),
    (Wanted(text="acc12 p012"), [12]),
    (Wanted(text="1.2.840.1"), [12, 11, 10, 1]),
    (Wanted(text="nobody"), []),
    (Wanted(sender="CT", since="20260105", until="20260110"), [10, 8, 6]),
    (Wanted(condition=Condition.RECEIVING, text="doe2"), [2]),
    (Wanted(condition=Condition.ATTENTION), []),
    (Wanted(condition=Condition.FAILED), []),
    (Wanted(peer="pacs"), []),
    (Wanted(before=3), [2, 1]),
)


@pytest.mark.parametrize("few", [0, 2000])
def test_the_same_is_found_in_both_ways(
    filled: Database, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(search, "_FEW", few)
    for wanted, numbers in ASKED:
        assert _found(filled, replace(wanted, with_patients=True)) == numbers, wanted


def test_who_may_not_see_patients_finds_none_by_them(filled: Database) -> None:
    assert _found(filled, Wanted(text="doe3")) == []
    assert _found(filled, Wanted(text="p003")) == []
    assert _found(filled, Wanted(text="acc3")) == [3]


def test_a_page_says_where_the_next_begins(filled: Database) -> None:
    with filled.read() as session:
        first = search.find(session, Wanted(), limit=5)
        second = search.find(session, Wanted(before=first.next_before), limit=7)
    assert [len(first.lines), len(second.lines)] == [5, 7]
    assert second.next_before is None


def test_the_senders_are_listed(filled: Database) -> None:
    with filled.read() as session:
        assert search.senders(session) == ["CT", "XR"]
