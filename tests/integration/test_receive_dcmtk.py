"""The receiver against DCMTK's own senders: what is acknowledged is on disk, byte for byte."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE

from dicom_node.clock import SystemClock
from dicom_node.model.events import ReceiveEvent, ReceiveKind
from dicom_node.model.peers import Peer
from dicom_node.receive import Receiver, ReceiverSettings
from dicom_node.store.seal import dataset_sha256
from dicom_node.store.spool import Spool
from tests.factories import radiograph
from tests.peers.dcmtk import dcmsend, echoscu, storescu
from tests.peers.ports import wait_for

TO_US = ("-aec", "AINODE", "-aet", "XR")


@dataclass
class Running:
    receiver: Receiver
    spool: Spool
    events: list[ReceiveEvent]

    @property
    def port(self) -> int:
        return self.receiver.port

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if event.kind != "association_aborted"]


@pytest.fixture(params=["ours", "stock"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    """A receiver; on our association, and on pynetdicom's own, which has to do the same."""
    yield from start(tmp_path, stock=request.param == "stock")


def start(tmp_path: Path, **settings: object) -> Iterator[Running]:
    events: list[ReceiveEvent] = []
    spool = Spool(tmp_path / "spool")
    peers = {"xr": Peer(ae_title="XR", host="127.0.0.1", port=104)}
    receiver = Receiver(
        ReceiverSettings(**{"ae_titles": ("AINODE", "SECOND"), "peers": peers, **settings}),
        spool,
        events.append,
        SystemClock(),
    )
    receiver.start()
    yield Running(receiver, spool, events)
    receiver.stop()


def echoed(port: int, *options: str) -> bool:
    """C-ECHO by echoscu; its exit status is 0 even when the echo failed."""
    answer = echoscu(port, *options)
    return answer.returncode == 0 and not answer.stderr


def unfinished(spool: Spool) -> list[Path]:
    """What lies half written in the spool; files made in advance are empty."""
    return [file for file in spool.root.glob("incoming/*/*") if file.stat().st_size]


def send_raw(port: int, body: bytes, sop_class: str, sop_uid: str, syntax: str) -> int:
    """Send any bytes as a data set; returns the C-STORE status."""
    from pynetdicom.dimse_primitives import C_STORE

    ae = AE("XR")
    ae.add_requested_context(sop_class, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="AINODE")
    assert association.is_established
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_uid
    request.Priority = 2
    request.DataSet = io.BytesIO(body)
    context = association.accepted_contexts[0]
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return int(answer.Status)


def encoded(dataset: object) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, dataset)
    return out.getvalue()


def test_an_echo_is_answered(running: Running) -> None:
    assert echoed(running.port, *TO_US)
    assert echoed(running.port, "-aec", "SECOND", "-aet", "XR")


def real_files(shared: Path) -> list[Path]:
    files = sorted((shared / "dicom").rglob("*.dcm"))
    return [file for file in files if "missing_uids" not in str(file)]


def test_dcmtk_sends_every_real_file(running: Running, shared: Path) -> None:
    files = real_files(shared)
    assert len(files) > 40
    for file in files:
        answer = dcmsend(running.port, [file], *TO_US)
        assert answer.returncode == 0, f"{file.name}: {answer.stderr}"
    arrived = running.spool.waiting()
    assert len(arrived) == len(files)
    for sent, path in zip(files, arrived, strict=True):
        header = dcmread(path, stop_before_pixels=True)
        was = dcmread(sent, stop_before_pixels=True)
        assert header.file_meta.SourceApplicationEntityTitle == "XR"
        if was.file_meta.TransferSyntaxUID.is_encapsulated:  # dcmsend may re-encode the others
            assert header.file_meta.TransferSyntaxUID == was.file_meta.TransferSyntaxUID
        assert header.SOPInstanceUID == was.SOPInstanceUID


def test_every_real_file_is_kept_byte_for_byte(running: Running, shared: Path) -> None:
    files = real_files(shared)
    for file in files:
        meta = dcmread(file, stop_before_pixels=True)
        body = file.read_bytes()
        status = send_raw(
            running.port,
            body[_start(body) :],
            str(meta.SOPClassUID),
            str(meta.SOPInstanceUID),
            str(meta.file_meta.TransferSyntaxUID),
        )
        assert status == 0, f"{file.name}: {running.reasons()}"
    for sent, kept in zip(files, running.spool.waiting(), strict=True):
        assert dataset_sha256(sent) == dataset_sha256(kept), sent.name


def test_the_ct_whose_uids_are_empty_is_refused_with_the_reason(
    running: Running, shared: Path
) -> None:
    file = shared / "dicom/ct_missing_uids/slice_01.dcm"
    answer = dcmsend(running.port, [file], *TO_US)
    assert running.spool.waiting() == []
    if not running.events:
        assert "SOP" in answer.stdout + answer.stderr  # DCMTK would not even send it
    body = file.read_bytes()
    status = send_raw(
        running.port,
        body[_start(body) :],
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.3",
        "1.2.840.10008.1.2.4.90",
    )
    assert status == 0xC000
    assert "UID is missing or empty" in running.reasons()[-1]
    assert running.spool.waiting() == []


def test_a_wrong_called_title_is_rejected_with_the_reason(running: Running) -> None:
    answer = echoscu(running.port, "-aec", "WRONG", "-aet", "XR")
    assert "Called AE Title Not Recognized" in answer.stderr
    assert running.events[0].kind is ReceiveKind.ASSOCIATION_REJECTED
    assert "we are called AINODE, SECOND" in running.events[0].reason


def test_an_unknown_caller_is_rejected_and_named(running: Running) -> None:
    answer = echoscu(running.port, "-aec", "AINODE", "-aet", "STRANGER")
    assert "Calling AE Title Not Recognized" in answer.stderr
    assert running.events[0].calling_ae == "STRANGER"
    assert "accept_from" in running.events[0].reason


def test_a_class_that_is_not_storage_is_not_accepted(running: Running) -> None:
    ae = AE("XR")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")  # Study Root C-FIND
    association = ae.associate("127.0.0.1", running.port, ae_title="AINODE")
    assert not association.accepted_contexts
    association.abort()
    assert echoed(running.port, *TO_US)


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"StudyInstanceUID": ""}, 0xC000, "StudyInstanceUID is missing or empty"),
        ({"SeriesInstanceUID": None}, 0xC000, "SeriesInstanceUID is missing or empty"),
        ({"StudyInstanceUID": "1.2.../../etc"}, 0xC000, "StudyInstanceUID is not a valid UID"),
        ({"SOPInstanceUID": "1.2.9"}, 0xA900, "another SOP Instance UID"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, 0xA900, "another SOP class"),
    ],
)
def test_a_data_set_that_cannot_be_filed_is_refused(
    running: Running, change: dict[str, str | None], status: int, reason: str
) -> None:
    dataset = radiograph()
    uid, sop_class = str(dataset.SOPInstanceUID), str(dataset.SOPClassUID)
    for keyword, value in change.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    body = encoded(dataset)
    assert send_raw(running.port, body, sop_class, uid, "1.2.840.10008.1.2.1") == status
    assert reason in running.reasons()[0]
    assert running.spool.waiting() == []
    assert echoed(running.port, *TO_US)


@pytest.mark.parametrize("lost", [1, 100, 6000, 6150, 6301])
def test_a_data_set_that_is_cut_off_is_refused(running: Running, lost: int) -> None:
    dataset = radiograph()
    body = encoded(dataset)[:-lost]
    uid, sop_class = str(dataset.SOPInstanceUID), str(dataset.SOPClassUID)
    assert send_raw(running.port, body, sop_class, uid, "1.2.840.10008.1.2.1") == 0xC000
    assert running.spool.waiting() == []


def test_compressed_pixels_that_are_cut_off_are_refused(running: Running, shared: Path) -> None:
    body = (shared / "dicom/hip_cr/RG2_JPLL.dcm").read_bytes()
    header = dcmread(io.BytesIO(body), stop_before_pixels=True)
    status = send_raw(
        running.port,
        body[_start(body) : -5000],
        str(header.SOPClassUID),
        str(header.SOPInstanceUID),
        str(header.file_meta.TransferSyntaxUID),
    )
    assert status == 0xC000
    assert "cut off" in running.reasons()[0]


def test_a_full_disk_refuses_with_out_of_resources_and_goes_on(tmp_path: Path) -> None:
    for running in start(tmp_path, min_free_bytes=1 << 60):
        file = tmp_path / "image.dcm"
        radiograph().save_as(file, enforce_file_format=True)
        answer = storescu(running.port, [file], *TO_US)
        assert "0xA700" in answer.stderr + answer.stdout or "OutOfResources" in answer.stderr
        assert running.events[0].status == 0xA700
        assert echoed(running.port, *TO_US)


def test_nothing_is_left_of_a_broken_transfer(running: Running) -> None:
    dataset = radiograph(np.zeros((2000, 2000), np.uint16))
    ae = AE("XR")
    ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", running.port, ae_title="AINODE")
    association.abort()
    wait_for("the association's end", lambda: running.receiver.associations == 0)
    assert running.spool.waiting() == []
    assert unfinished(running.spool) == []


def test_what_a_dead_receiver_left_unfinished_is_removed_at_start(tmp_path: Path) -> None:
    folder = Spool(tmp_path / "spool").root / "incoming" / "of-a-dead-process"
    folder.mkdir()
    (folder / "1.part").write_bytes(b"half a file")
    for running in start(tmp_path):
        assert list((running.spool.root / "incoming").iterdir()) == []
        assert running.spool.waiting() == []


def _start(body: bytes) -> int:
    return 144 + int.from_bytes(body[140:144], "little")


def test_the_uids_of_the_factories_differ() -> None:
    assert radiograph().SOPInstanceUID != radiograph().SOPInstanceUID != generate_uid()
