"""The head of a DICOM file that comes in pieces: what it is, then the data set as it stands."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Final

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.retrieve.found import Incoming

_PREAMBLE: Final = 132
_GROUP_LENGTH: Final = 12
_LONGEST: Final = 64 * 1024
_UNREADABLE: Final = (
    InvalidDicomError,
    AttributeError,
    ValueError,
    KeyError,
    OverflowError,
    EOFError,
    struct.error,
)


class NoDicomError(Exception):
    """It is no DICOM file (PS3.10 section 7.1)."""


def split_head(pieces: Iterator[bytes]) -> tuple[Incoming, bytes]:
    """Read as much of a file as its File Meta Information takes.

    Returns:
        What the data set is, and its first bytes; the rest is still in `pieces`.

    Raises:
        NoDicomError: It is something else, or too short.
    """
    head = _at_least(pieces, b"", _PREAMBLE + _GROUP_LENGTH)
    # (0002,0000) UL of 4 bytes: how long the rest of the group is
    if head[128:132] != b"DICM" or head[132:140] != b"\x02\0\0\0UL\x04\0":
        raise NoDicomError
    end = _PREAMBLE + _GROUP_LENGTH + int.from_bytes(head[140:144], "little")
    if end > _LONGEST:
        raise NoDicomError
    head = _at_least(pieces, head, end)
    try:
        meta = dcmread(BytesIO(head[:end])).file_meta
        incoming = Incoming(
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
        )
    except _UNREADABLE:
        raise NoDicomError from None
    return incoming, head[end:]


def _at_least(pieces: Iterator[bytes], head: bytes, size: int) -> bytes:
    while len(head) < size:
        piece = next(pieces, None)
        if piece is None:
            raise NoDicomError
        head += piece
    return head
