"""A TCP connection read in large pieces and given out PDU by PDU (PS3.8 section 9.3)."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Final

P_DATA_TF: Final = 0x04
_ASSOCIATE_RQ: Final = 0x01
_KINDS: Final = frozenset(range(1, 8))
_HEAD: Final = 6
_LONGEST: Final = 1024 * 1024
"""No PDU needs more: an A-ASSOCIATE-RQ with all 128 contexts has some 100 KiB."""
_FIRST_SIZE: Final = 16 * 1024
_SIZE: Final = 512 * 1024


class ProtocolError(Exception):
    """The other side does not speak the DICOM upper layer protocol as it should."""


class Wire:
    """The receiving side of one connection.

    Holds at most one buffer: small until an association is there, 512 KiB after `widen`, more
    (to 1 MiB) only for a PDU that is longer than that.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(_FIRST_SIZE)
        self._start = 0
        self._end = 0

    def widen(self) -> None:
        """Make room for the PDUs of images."""
        self._grow(_SIZE)

    def fill(self, timeout: float) -> int | None:
        """Wait for bytes and take what is there; returns how many, 0 at the end of the stream.

        None: nothing came within `timeout` seconds.

        Raises:
            OSError: The connection is broken.
        """
        if self._start:
            rest = self._buffer[self._start : self._end]
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        self._connection.settimeout(timeout)
        try:
            with memoryview(self._buffer) as view:
                got = self._connection.recv_into(view[self._end :])
        except (TimeoutError, ssl.SSLWantReadError):
            return None
        self._end += got
        return got

    def next_pdu(self) -> tuple[int, memoryview] | None:
        """Return the kind of the next whole PDU and all its bytes, or None.

        The view is to be released before the next `fill`.

        Raises:
            ProtocolError: What comes is no PDU, or one that is too long.
        """
        have = self._end - self._start
        if have < _HEAD:
            return None
        kind, length = struct.unpack_from(">BxI", self._buffer, self._start)
        if kind not in _KINDS:
            raise ProtocolError("it sent something that is not a PDU")
        if length > _LONGEST:
            raise ProtocolError(f"it sent a PDU of {length} bytes")
        if have < _HEAD + length:
            if len(self._buffer) < _HEAD + length:
                self._grow(_HEAD + length)
            return None
        at = self._start
        self._start += _HEAD + length
        return int(kind), memoryview(self._buffer)[at : self._start]

    def discard(self) -> None:
        """Forget what has come and was not looked at."""
        self._start = self._end = 0

    def _grow(self, size: int) -> None:
        if size > len(self._buffer):
            grown = bytearray(size)
            grown[: self._end] = self._buffer[: self._end]
            self._buffer = grown


def with_readable_titles(pdu: bytes) -> bytes:
    """Make the AE titles of an A-ASSOCIATE-RQ such that pynetdicom decodes them.

    A blank title, or one with characters that it may not have, is no reason to abort without a
    word: it is rejected as not recognised (or let in, where anyone may come in). Blank becomes a
    lone "?", which no AE title list can hold by mistake.
    """
    if pdu[0] != _ASSOCIATE_RQ or len(pdu) < 42:
        return pdu
    called, calling = (_readable(pdu[at : at + 16]) for at in (10, 26))
    return pdu[:10] + called + calling + pdu[42:]


def _readable(title: bytes) -> bytes:
    kept = bytes(c if 32 <= c < 127 and c != 0x5C else 0x3F for c in title.rstrip(b"\0 "))
    return (kept.strip() or b"?").ljust(16)
