"""A sender that is a script of bytes: exact PDUs, broken off wherever a test wants."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from tests.unit.receive.encoded import CT, EXPLICIT, command, data_set, pdu, pdv

VERIFICATION = "1.2.840.10008.1.1"
RELEASE = b"\x05\0\0\0\0\x04\0\0\0\0"
SUCCESS = struct.pack("<HHIH", 0, 0x0900, 2, 0)
"""The status element of a response that says success."""
_ACCEPTED = 2
_PIECE = 16 * 1024


def item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(data)) + data


def associate_request(
    calling: bytes = b"XR", called: bytes = b"AINODE", abstract_syntax: str = CT
) -> bytes:
    """An A-ASSOCIATE-RQ for CT in explicit VR, context 1 (PS3.8 section 9.3.2)."""
    context = b"\x01\0\0\0" + item(0x30, abstract_syntax.encode()) + item(0x40, EXPLICIT.encode())
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4")
    body = (
        struct.pack(">HH", 1, 0)
        + called.ljust(16)
        + calling.ljust(16)
        + bytes(32)
        + item(0x10, b"1.2.840.10008.3.1.1.1")
        + item(0x20, context)
        + item(0x50, user)
    )
    return struct.pack(">BxI", 1, len(body)) + body


def image(sop: str = "1.2.3.4.5", pixels: bytes = b"\x01\x02" * 50) -> bytes:
    """The PDUs of a C-STORE request, the data set in pieces of 16 KiB."""
    body = data_set(sop, pixels)
    pieces = [body[at : at + _PIECE] for at in range(0, len(body), _PIECE)]
    return pdu(pdv(1, 3, command(sop=sop))) + b"".join(
        pdu(pdv(1, 2 if number == len(pieces) else 0, piece))
        for number, piece in enumerate(pieces, 1)
    )


def read_pdu(connection: socket.socket) -> bytes:
    """One PDU, or b"" at the end of the stream."""
    data = b""
    while len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
        piece = connection.recv(1 if len(data) < 6 else 65536)
        if not piece:
            return b""
        data += piece
    return data


@contextlib.contextmanager
def connected(port: int, timeout: float = 60) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        yield connection


@contextlib.contextmanager
def associated(port: int, timeout: float = 60) -> Iterator[socket.socket]:
    """A connection with an association for CT."""
    with connected(port, timeout) as connection:
        connection.sendall(associate_request())
        assert read_pdu(connection)[:1] == bytes((_ACCEPTED,))
        yield connection


def store(connection: socket.socket, sop: str, pixels: bytes = b"\x01\x02" * 50) -> int:
    """Send one image on an association and return the status."""
    connection.sendall(image(sop, pixels))
    return status_of(read_pdu(connection))


def status_of(response: bytes) -> int:
    """Return the status of a response's PDU (0000,0900)."""
    at = response.find(struct.pack("<HHI", 0, 0x0900, 2))
    assert at > 0, f"no response with a status: {response[:1]!r}"
    return int.from_bytes(response[at + 8 : at + 10], "little")


def echo(connection: socket.socket) -> int:
    """Associate for C-ECHO on a connection (which may be TLS's), and return the status."""
    connection.sendall(associate_request(abstract_syntax=VERIFICATION))
    assert read_pdu(connection)[:1] == bytes((_ACCEPTED,))
    request = command(field=0x30, sop_class=VERIFICATION, has_data_set=False)
    connection.sendall(pdu(pdv(1, 3, request)))
    status = status_of(read_pdu(connection))
    connection.sendall(RELEASE)
    read_pdu(connection)
    return status
