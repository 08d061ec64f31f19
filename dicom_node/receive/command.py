"""Command sets of the messages that are handled for every image: C-STORE (PS3.7 section 9.3.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

C_STORE_RQ: Final = 0x0001
_C_STORE_RSP: Final = 0x8001
_NO_DATA_SET: Final = 0x0101

_SOP_CLASS: Final = 0x0002
_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_ANSWERED_ID: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_SOP_INSTANCE: Final = 0x1000


class CommandError(Exception):
    """The bytes are not a command set."""


@dataclass(frozen=True, slots=True)
class Command:
    """What of a command set tells how to go on.

    Attributes:
        field: Command Field (0000,0100).
        has_data_set: A data set follows.
        sop_class_uid: Affected SOP Class UID; "" when absent, as for the instance.
    """

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str


def read_command(encoded: bytes | bytearray) -> Command:
    """Read a command set, which is always in implicit VR little endian (PS3.7 section 6.3.1).

    Raises:
        CommandError: It is not one.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise CommandError("an element of the command set is incomplete")
        group, element, length = struct.unpack_from("<HHI", encoded, position)
        position += 8
        if group != 0 or position + length > len(encoded):
            raise CommandError("an element of the command set is not of it, or incomplete")
        values[element] = bytes(encoded[position : position + length])
        position += length
    return Command(
        field=_number(values, _FIELD),
        message_id=_number(values, _MESSAGE_ID, 0),
        has_data_set=_number(values, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class_uid=_text(values, _SOP_CLASS),
        sop_instance_uid=_text(values, _SOP_INSTANCE),
    )


def store_response(request: Command, status: int, comment: str = "") -> bytes:
    """Make the command set of a C-STORE response; a comment is cut to its 64 characters (LO)."""
    parts = [
        _uid_element(_SOP_CLASS, request.sop_class_uid),
        struct.pack("<HHIH", 0, _FIELD, 2, _C_STORE_RSP),
        struct.pack("<HHIH", 0, _ANSWERED_ID, 2, request.message_id),
        struct.pack("<HHIH", 0, _DATA_SET_TYPE, 2, _NO_DATA_SET),
        struct.pack("<HHIH", 0, _STATUS, 2, status),
    ]
    if comment:
        text = comment.encode("ascii", "replace").replace(b"\\", b"/")[:64]
        parts.append(_element(_ERROR_COMMENT, text + b" " * (len(text) % 2)))
    parts.append(_uid_element(_SOP_INSTANCE, request.sop_instance_uid))
    body = b"".join(parts)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def command_pdus(command: bytes, context_id: int, max_length: int) -> bytes:
    """Make the P-DATA-TF PDUs of a command set (PS3.8 section 9.3.5).

    Args:
        max_length: The longest PDU that the other side takes; 0: any.
    """
    room = max(max_length - 6, 1) if max_length else len(command)
    pieces = [command[at : at + room] for at in range(0, len(command), room)]
    pdus = []
    for number, piece in enumerate(pieces, 1):
        control = 3 if number == len(pieces) else 1
        head = struct.pack(">BxIIBB", 4, len(piece) + 6, len(piece) + 2, context_id, control)
        pdus.append(head + piece)
    return b"".join(pdus)


def _number(values: dict[int, bytes], element: int, default: int | None = None) -> int:
    value = values.get(element)
    if value is None or len(value) != 2:
        if default is None:
            raise CommandError("the command set lacks an element that it must have")
        return default
    return int.from_bytes(value, "little")


def _text(values: dict[int, bytes], element: int) -> str:
    text = values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")
    return text if len(text) <= 64 else ""


def _uid_element(element: int, uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return _element(element, value + b"\0" * (len(value) % 2)) if value else b""


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value
