"""An object whose file breaks while it is sent."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom.presentation import build_context

from dicom_node.delivery import scu
from dicom_node.delivery.answers import Outgoing, Verdict
from dicom_node.model.peers import Peer
from dicom_node.requestor import ScuSettings
from tests.factories import radiograph

PACS = Peer(ae_title="PACS", host="127.0.0.1", port=104)


class BreaksWhileSending:
    """An association whose object's file cannot be read to its end."""

    def __init__(self, report: Outgoing) -> None:
        self.accepted_contexts = [build_context(report.sop_class_uid, report.transfer_syntax_uid)]
        self.is_established = True
        self.given: list[Any] = []

    def send_c_store(self, given: object) -> None:
        self.given.append(given)
        raise OSError(errno.EIO, "Input/output error")

    def abort(self) -> None:
        self.is_established = False


@pytest.fixture
def report(tmp_path: Path) -> Outgoing:
    file = tmp_path / "report.dcm"
    radiograph().save_as(file, enforce_file_format=True)
    header = dcmread(file, stop_before_pixels=True)
    return Outgoing(1, file, str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID))


def test_a_file_that_breaks_while_it_is_sent_ends_the_association_and_is_tried_again(
    report: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BreaksWhileSending(report)
    monkeypatch.setattr(scu, "associate", lambda *_: broken)
    (answer,) = scu.store(ScuSettings("AINODE"), PACS, [report])
    assert broken.given == [report.file], "from its file, in pieces"
    assert not broken.is_established
    assert answer.verdict is Verdict.TRY_AGAIN
    assert "cannot be read" in answer.text


def test_associations_that_are_lost_are_replaced_a_few_times_only(
    report: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[BreaksWhileSending] = []

    def associate(*_: object) -> BreaksWhileSending:
        made.append(BreaksWhileSending(report))
        return made[-1]

    monkeypatch.setattr(scu, "associate", associate)
    many = [replace(report, id=number) for number in range(5)]
    answers = list(scu.store(ScuSettings("AINODE"), PACS, many))
    assert [answer.id for answer in answers] == [0, 1, 2, 3, 4]
    assert {answer.verdict for answer in answers} == {Verdict.TRY_AGAIN}
    assert len(made) == 3
    assert ["association was lost" in answer.text for answer in answers] == [False] * 3 + [True] * 2
