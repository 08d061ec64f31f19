"""From request to file, or to a status that says why not."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from dicom_node.receive.desk import Desk
from dicom_node.receive.policy import Caller
from dicom_node.receive.settings import IMPLEMENTATION_CLASS_UID
from dicom_node.receive.storing import Answer, StoreRequest
from dicom_node.store.spool import Spool
from tests.unit.receive.encoded import CT, EXPLICIT, SOP, data_set

XR = Caller("XR", "AINODE", "127.0.0.1")
REQUEST = StoreRequest(CT, SOP, CT, EXPLICIT)


def store(desk: Desk, body: bytes, request: StoreRequest = REQUEST, caller: Caller = XR) -> Answer:
    receipt = desk.receive(caller, request)
    for at in range(0, len(body), 40):
        receipt.write(body[at : at + 40])
    return receipt.finish()


def test_the_file_says_where_it_came_from_and_how_it_is_encoded(desk: Desk, spool: Spool) -> None:
    assert store(desk, data_set()) == Answer(0, study_instance_uid="1.2.3")
    meta = read_file_meta_info(spool.waiting()[0])
    assert meta.SourceApplicationEntityTitle == "XR"
    assert meta.SendingApplicationEntityTitle == "XR"
    assert meta.ReceivingApplicationEntityTitle == "AINODE"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.MediaStorageSOPInstanceUID == SOP
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName.startswith("DICOMNODE_")
    length = meta.FileMetaInformationGroupLength
    assert spool.waiting()[0].read_bytes()[144 + length :] == data_set()
    assert dcmread(spool.waiting()[0]).SOPInstanceUID == SOP


def test_a_caller_without_a_title_leaves_the_titles_out(desk: Desk, spool: Spool) -> None:
    store(desk, data_set(), caller=Caller("", "AINODE", "127.0.0.1"))
    meta = read_file_meta_info(spool.waiting()[0])
    assert "SourceApplicationEntityTitle" not in meta


def test_an_empty_data_set_is_refused(desk: Desk, spool: Spool) -> None:
    assert store(desk, b"").status == 0xC000
    assert spool.waiting() == []


def test_a_full_disk_during_the_data_set_is_out_of_resources(
    desk: Desk, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = desk.receive(XR, REQUEST)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    receipt.write(data_set())
    receipt.write(b"and more")
    answer = receipt.finish()
    assert answer.status == 0xA700
    assert "No space left" in answer.reason
    monkeypatch.undo()
    assert [f for f in spool.root.glob("incoming/*/*") if f.stat().st_size] == []
    assert store(desk, data_set()).status == 0


def test_too_little_free_space_is_out_of_resources(make_desk: Callable[..., Desk]) -> None:
    answer = store(make_desk(min_free_bytes=1 << 62), data_set())
    assert answer.status == 0xA700
    assert "node.min_free_mb" in answer.reason


def test_space_that_runs_out_during_a_long_data_set_is_noticed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.receive.storing._FREE_SPACE_EVERY", 100)
    receipt = desk.receive(XR, REQUEST)
    monkeypatch.setattr(Spool, "free_bytes", lambda _: -1)
    for _ in range(4):
        receipt.write(bytes(100))
    assert receipt.finish().status == 0xA700


def test_a_data_set_longer_than_allowed_is_out_of_resources(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(max_dataset=len(data_set()))
    assert store(desk, data_set()).status == 0
    assert store(desk, data_set(pixels=bytes(1000))).status == 0xA700


def test_an_error_of_ours_is_a_status_not_a_silence(
    desk: Desk, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("Secret^Name")

    monkeypatch.setattr("dicom_node.receive.storing.inspect", broken)
    answer = store(desk, data_set())
    assert answer.status == 0xC000
    assert "ZeroDivisionError" in answer.reason
    assert "Secret" not in answer.reason
    assert spool.waiting() == []


def test_when_the_last_sender_has_gone_what_came_is_told_once(desk: Desk, spool: Spool) -> None:
    bell = spool.arrivals.bell()
    assert bell is not None
    stop, other = threading.Event(), Caller("CT", "AINODE", "127.0.0.1")

    def rung() -> bool:
        return bell.wait(stop, 0.01)

    for caller in (XR, other):
        assert desk.enter(caller) is None
    desk.answered(XR, SOP, store(desk, data_set()))
    desk.leave(XR)
    assert not rung()
    desk.leave(other)
    assert rung()
    # one that sends nothing, as for a C-ECHO, is not worth a look
    assert desk.enter(XR) is None
    desk.leave(XR)
    assert not rung()
