"""Senders and networks that misbehave: the receiver goes on serving the others."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE

from dicom_node.model.events import ReceiveKind
from dicom_node.store.seal import is_whole
from dicom_node.store.spool import Spool
from tests.integration.receiver_process import receiver_process
from tests.integration.test_receive_dcmtk import Running, echoed, send_raw, start, unfinished
from tests.peers.dcmtk import echoscu
from tests.peers.ports import wait_for
from tests.peers.scripted import RELEASE, associate_request, connected, read_pdu
from tests.unit.receive.encoded import CT, EXPLICIT, SOP, command, data_set, pdu, pdv

ANYONE = ("-aec", "AINODE")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    yield from start(tmp_path, promiscuous=True)


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Running]:
    """A receiver that gives up whoever is silent for a second."""
    yield from start(tmp_path, promiscuous=True, acse_timeout=1, network_timeout=1)


def image() -> bytes:
    return pdu(pdv(1, 3, command())) + pdu(pdv(1, 2, data_set()))


def test_a_scripted_sender_is_served(running: Running) -> None:
    with connected(running.port) as peer:
        peer.sendall(associate_request())
        assert read_pdu(peer)[0] == 2  # A-ASSOCIATE-AC
        peer.sendall(image())
        assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in read_pdu(peer)
        peer.sendall(RELEASE)
        assert read_pdu(peer)[0] == 6  # A-RELEASE-RP
    assert len(running.spool.waiting()) == 1
    wait_for("the association's end", lambda: running.receiver.associations == 0)
    assert running.events == []


@pytest.mark.parametrize("ending", ["close", "reset", "abort"])
@pytest.mark.parametrize("after", [0, 3, 80, 200, 210, 300, 400, 500])
def test_a_sender_that_breaks_off_at_any_byte_leaves_nothing_but_an_event(
    running: Running, after: int, ending: str
) -> None:
    whole = associate_request() + image()
    with connected(running.port) as peer:
        peer.sendall(whole[:after])
        if after >= len(associate_request()):
            assert read_pdu(peer)[0] == 2
        if ending == "abort":
            peer.sendall(b"\x07\0\0\0\0\x04\0\0\0\0")
        if ending == "reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for("the association's end", lambda: running.receiver.associations == 0)
    wait_for("nothing to be left", lambda: not unfinished(running.spool))
    if after >= len(associate_request()):
        wait_for("the event", lambda: running.events)
        assert running.events[0].kind is ReceiveKind.ASSOCIATION_ABORTED
    assert running.spool.waiting() == []
    assert echoed(running.port, *ANYONE)


def test_what_came_whole_before_the_sender_broke_off_stays(running: Running) -> None:
    with connected(running.port) as peer:
        peer.sendall(associate_request())
        read_pdu(peer)
        peer.sendall(image())
        read_pdu(peer)
        peer.sendall(image()[:300])
    wait_for("the event", lambda: running.events)
    (file,) = running.spool.waiting()
    assert is_whole(file)


@pytest.mark.parametrize(
    "bytes_sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\xff" * 100, RELEASE],
    ids=["http", "tls", "noise", "release"],
)
def test_what_is_not_dicom_is_closed_soon(hasty: Running, bytes_sent: bytes) -> None:
    with connected(hasty.port) as peer:
        peer.sendall(bytes_sent)
        answer = read_pdu(peer)
        assert answer == b"" or answer[0] == 7  # A-ABORT
        with contextlib.suppress(ConnectionResetError):
            assert read_pdu(peer) == b""
    assert echoed(hasty.port, *ANYONE)


def test_a_connection_that_says_nothing_is_closed(hasty: Running) -> None:
    with connected(hasty.port) as peer:
        assert read_pdu(peer) == b""


def test_a_request_that_comes_too_slowly_is_closed(hasty: Running) -> None:
    with connected(hasty.port) as peer:
        peer.sendall(associate_request()[:50])
        assert read_pdu(peer) == b""


def test_an_association_on_which_nothing_comes_is_aborted(hasty: Running) -> None:
    with connected(hasty.port) as peer:
        peer.sendall(associate_request())
        read_pdu(peer)
        assert read_pdu(peer)[0] == 7
    wait_for("the event", lambda: hasty.events)
    assert "time-out" in hasty.events[0].reason


def test_a_blank_calling_title_is_rejected_with_the_reason(tmp_path: Path) -> None:
    for running in start(tmp_path):
        with connected(running.port) as peer:
            peer.sendall(associate_request(calling=b""))
            # A-ASSOCIATE-RJ: permanent, service user, calling AE title not recognised
            assert read_pdu(peer) == b"\x03\0\0\0\0\x04\0\x01\x01\x03"
        assert "it is blank" in running.events[0].reason


def test_a_blank_calling_title_is_let_in_where_anyone_is(running: Running) -> None:
    with connected(running.port) as peer:
        peer.sendall(associate_request(calling=b""))
        assert read_pdu(peer)[0] == 2


def test_another_protocol_version_is_rejected(running: Running) -> None:
    with connected(running.port) as peer:
        request = bytearray(associate_request())
        request[6:8] = b"\x00\x02"
        peer.sendall(request)
        assert read_pdu(peer)[0] == 3
    assert echoed(running.port, *ANYONE)


def test_a_query_on_an_image_context_ends_the_association_only(running: Running) -> None:
    with connected(running.port) as peer:
        peer.sendall(associate_request())
        read_pdu(peer)
        peer.sendall(pdu(pdv(1, 3, command(field=0x20))))
        assert read_pdu(peer)[0] == 7
    wait_for("the event", lambda: running.events)
    assert "C-STORE" in running.events[0].reason


def test_the_same_image_from_two_senders_at_once_is_kept_twice_to_be_compared(
    running: Running,
) -> None:
    with connected(running.port) as one, connected(running.port) as other:
        for peer in (one, other):
            peer.sendall(associate_request())
            read_pdu(peer)
            peer.sendall(image()[:400])
        for peer in (one, other):
            peer.sendall(image()[400:])
            assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in read_pdu(peer)
    assert len(running.spool.waiting()) == 2


def test_more_associations_than_allowed_are_rejected_until_one_ends(tmp_path: Path) -> None:
    for running in start(tmp_path, promiscuous=True, max_associations=1):
        with connected(running.port) as peer:
            peer.sendall(associate_request())
            read_pdu(peer)
            assert "Local Limit Exceeded" in echoscu(running.port, *ANYONE).stderr
        wait_for("the association's end", lambda r=running: r.receiver.associations == 0)
        assert echoed(running.port, *ANYONE)


def test_stopping_aborts_an_idle_association(tmp_path: Path) -> None:
    for running in start(tmp_path, promiscuous=True):
        with connected(running.port) as peer:
            peer.sendall(associate_request())
            read_pdu(peer)
            running.receiver.stop()
            assert read_pdu(peer)[0] == 7


def test_a_large_image_takes_little_memory(tmp_path: Path) -> None:
    size = 300 * 1024 * 1024
    with receiver_process(tmp_path) as receiver:
        echoscu(receiver.port, *ANYONE)
        before = receiver.memory()["VmRSS"]
        start_of_set = data_set(pixels=b"")[:-12]
        pixels = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OW", size)
        with connected(receiver.port) as peer:
            peer.settimeout(120)
            peer.sendall(associate_request())
            read_pdu(peer)
            peer.sendall(pdu(pdv(1, 3, command())) + pdu(pdv(1, 0, start_of_set + pixels)))
            piece = pdu(pdv(1, 0, bytes(128 * 1024 - 6)))
            sent = 0
            while sent < size - 128 * 1024:
                peer.sendall(piece)
                sent += 128 * 1024 - 6
            peer.sendall(pdu(pdv(1, 2, bytes(size - sent))))
            assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in read_pdu(peer)
        grown = receiver.memory()["VmHWM"] - before
        # what the kernel maps of the file while it is checked counts as ours for a moment
        assert grown < 60 * 1024 * 1024, f"{grown / 1e6:.0f} MB"
        (file,) = Spool(tmp_path / "spool").waiting()
        assert file.stat().st_size > size


def test_a_private_class_is_taken_when_it_is_configured(tmp_path: Path) -> None:
    private = "1.2.826.0.1.3680043.9.9999.1"
    for stock in (False, True):
        for running in start(tmp_path / str(stock), extra_sop_classes=(private,), stock=stock):
            body = data_set(SOPClassUID=private)
            assert send_raw(running.port, body, private, SOP, EXPLICIT) == 0
            assert len(running.spool.waiting()) == 1


def test_two_receivers_share_a_port(tmp_path: Path) -> None:
    with receiver_process(tmp_path, "reuse_port=1") as one:
        with receiver_process(tmp_path, "reuse_port=1", f"port={one.port}") as other:
            assert other.port == one.port
            for _ in range(10):
                ae = AE("XR")
                ae.add_requested_context(CT, EXPLICIT)
                association = ae.associate("127.0.0.1", one.port, ae_title="AINODE")
                assert association.is_established
                association.release()
        assert echoed(one.port, *ANYONE)


def test_an_abort_from_an_undefined_source_ends_the_association_only(running: Running) -> None:
    with connected(running.port) as peer:
        peer.sendall(associate_request())
        read_pdu(peer)
        peer.sendall(b"\x07\0\0\0\0\x04\0\0\x09\0")
        assert read_pdu(peer)[0] == 7
    wait_for("the event", lambda: running.events)
    assert "cannot be decoded" in running.events[0].reason
    assert echoed(running.port, *ANYONE)
