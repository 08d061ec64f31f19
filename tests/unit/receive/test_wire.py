"""PDUs from a stream of bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from dicom_node.receive.wire import ProtocolError, Wire, with_readable_titles
from tests.unit.receive.encoded import pdu


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Wire]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs, Wire(ours)


def read(wire: Wire) -> bytes | None:
    found = wire.next_pdu()
    if found is None:
        return None
    with found[1] as view:
        return bytes(view)


def test_pdus_come_out_as_they_went_in(pair: tuple[socket.socket, Wire]) -> None:
    theirs, wire = pair
    pdus = [pdu(b"one"), pdu(b""), pdu(b"three" * 100)]
    theirs.sendall(b"".join(pdus) + pdus[0][:4])
    wire.fill(1)
    assert [read(wire) for _ in range(4)] == [*pdus, None]
    theirs.sendall(pdus[0][4:])
    wire.fill(1)
    assert read(wire) == pdus[0]


def test_a_pdu_that_comes_byte_by_byte_is_whole_in_the_end(
    pair: tuple[socket.socket, Wire],
) -> None:
    theirs, wire = pair
    for byte in pdu(b"slow"):
        assert read(wire) is None
        theirs.sendall(bytes([byte]))
        wire.fill(1)
    assert read(wire) == pdu(b"slow")


def test_a_pdu_longer_than_the_buffer_makes_it_grow(pair: tuple[socket.socket, Wire]) -> None:
    theirs, wire = pair
    long = pdu(bytes(range(256)) * 300)
    theirs.sendall(long)
    found = None
    while found is None:
        assert wire.fill(1)
        found = read(wire)
    assert found == long


def test_nothing_for_a_while_is_told_from_the_end(pair: tuple[socket.socket, Wire]) -> None:
    theirs, wire = pair
    assert wire.fill(0.01) is None
    theirs.close()
    assert wire.fill(1) == 0


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"\x00\x00\x00\x00\x00\x00", b"\x08" * 6])
def test_what_is_not_dicom_is_found_out(pair: tuple[socket.socket, Wire], start: bytes) -> None:
    theirs, wire = pair
    theirs.sendall(start)
    wire.fill(1)
    with pytest.raises(ProtocolError, match="not a PDU"):
        read(wire)


def test_a_pdu_of_four_gigabytes_is_not_waited_for(pair: tuple[socket.socket, Wire]) -> None:
    theirs, wire = pair
    theirs.sendall(b"\x04\x00\xff\xff\xff\xff")
    wire.fill(1)
    with pytest.raises(ProtocolError, match="4294967295 bytes"):
        read(wire)


def request(called: bytes, calling: bytes) -> bytes:
    return b"\x01\x00\x00\x00\x00\x44\x00\x01\x00\x00" + called + calling + bytes(32)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_any_titles_are_readable_to_pynetdicom(called: bytes, calling: bytes) -> None:
    decoded = A_ASSOCIATE_RQ()
    decoded.decode(with_readable_titles(request(called, calling)))
    assert decoded.calling_ae_title.strip()
    assert decoded.called_ae_title.strip()


def test_good_titles_are_left_as_they_are() -> None:
    pdu = request(b"AINODE".ljust(16), b"XR 1".ljust(16))
    assert with_readable_titles(pdu) == pdu


def test_a_blank_title_becomes_a_question_mark() -> None:
    blank = with_readable_titles(request(b"AINODE".ljust(16), b" " * 16))
    assert blank[26:42] == b"?".ljust(16)
