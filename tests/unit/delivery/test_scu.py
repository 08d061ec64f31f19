"""An object whose file breaks while it is sent."""

from __future__ import annotations

import errno
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


class BreaksWhileSending:
    """An association whose object's file cannot be read to its end."""

    def __init__(self, sop_class: str, syntax: str) -> None:
        self.accepted_contexts = [build_context(sop_class, syntax)]
        self.is_established = True
        self.given: list[Any] = []

    def send_c_store(self, given: object) -> None:
        self.given.append(given)
        raise OSError(errno.EIO, "Input/output error")

    def abort(self) -> None:
        self.is_established = False


def test_a_file_that_breaks_while_it_is_sent_ends_the_association_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "report.dcm"
    radiograph().save_as(file, enforce_file_format=True)
    header = dcmread(file, stop_before_pixels=True)
    sop_class, syntax = str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID)
    broken = BreaksWhileSending(sop_class, syntax)
    monkeypatch.setattr(scu, "associate", lambda *_: broken)
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=104)
    two = [Outgoing(1, file, sop_class), Outgoing(2, file, sop_class)]
    first, second = scu.store(ScuSettings("AINODE"), peer, two)
    assert broken.given == [file], "from its file, in pieces"
    assert not broken.is_established
    assert (first.verdict, second.verdict) == (Verdict.TRY_AGAIN, Verdict.TRY_AGAIN)
    assert "cannot be read" in first.text
    assert "association was lost" in second.text
