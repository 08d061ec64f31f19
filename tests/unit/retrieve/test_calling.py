"""What goes wrong with an association is told in our own words."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import RetrieveError, UnreachableError
from dicom_node.model.peers import Peer
from dicom_node.requestor import ScuSettings
from dicom_node.retrieve import Finder, FoundSeries, GetArchive, Line, MoveArchive, StudyQuery
from dicom_node.retrieve.calling import FIND, GET, MOVE
from tests.unit.retrieve.test_days import DAY

PEER = Peer(ae_title="PACS", host="127.0.0.1", port=104)
ONE = [FoundSeries("1.2.3", "DX", 1)]


class Scripted(SimpleNamespace):
    """An association that stands, as far as anybody can tell."""

    is_established = True
    dimse_timeout = 1.0
    accepted_contexts = tuple(SimpleNamespace(abstract_syntax=uid) for uid in (FIND, MOVE, GET))

    def release(self) -> None:
        self.is_established = False


def status(code: int) -> Dataset:
    found = Dataset()
    found.Status = code
    return found


def line(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> Line:
    made = Line("pacs", PEER, ScuSettings("AINODE"))
    monkeypatch.setattr(made, "open", lambda *_, **__: Scripted(**answers))
    return made


def test_an_association_that_ends_in_the_very_moment_of_a_question_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(*_: object) -> None:
        # what pynetdicom raises then
        raise RuntimeError("The association with a peer SCP must be established")

    there = line(monkeypatch, send_c_find=ended, send_c_move=ended, send_c_get=ended)
    storage: Any = None
    with pytest.raises(UnreachableError, match="C-FIND of pacs"):
        Finder(there).series("1.2")
    with pytest.raises(UnreachableError, match="C-MOVE of pacs"):
        MoveArchive(there, "AINODE").pull("1.2", ONE)
    with pytest.raises(UnreachableError, match="C-GET of pacs"):
        GetArchive(there, storage).pull("1.2", ONE)


def test_a_peer_that_hangs_up_after_each_series_is_called_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Scripted] = []

    def get(*_: object) -> Iterator[tuple[Dataset, Dataset | None]]:
        done = status(0x0000)
        done.NumberOfCompletedSuboperations = 1
        yield done, None
        calls[-1].is_established = False

    def call(*_: object, **__: object) -> Scripted:
        calls.append(Scripted(send_c_get=get))
        return calls[-1]

    there = Line("pacs", PEER, ScuSettings("AINODE"))
    monkeypatch.setattr(there, "open", call)
    storage: Any = None
    pulled = GetArchive(there, storage).pull("1.2", [*ONE, FoundSeries("1.2.4", "DX", 1)])
    assert (pulled.completed, pulled.ok, len(calls)) == (2, True, 2)


def test_a_match_that_cannot_be_read_is_not_passed_over_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answers(*_: object) -> Iterator[tuple[Dataset, Dataset | None]]:
        yield status(0xFF00), None
        yield status(0x0000), None

    finder = Finder(line(monkeypatch, send_c_find=answers))
    with pytest.raises(RetrieveError, match="cannot be read"):
        finder.series("1.2")
    assert finder.studies(StudyQuery(DAY, "DX")).cut
