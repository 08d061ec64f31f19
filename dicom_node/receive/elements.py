"""Walking an encoded data set from element to element, without looking at any value.

PS3.5 section 7 (data element encoding, nesting) and annex A (transfer syntaxes). Values are
skipped by their length, so that the cost is that of the number of elements, not of bytes; the
whole walk tells whether the data set is complete.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pydicom.uid import UID

Bytes = bytes | mmap.mmap | memoryview
"""Bytes at hand, or a file's, which need not all be in memory."""

_LONG_LENGTH: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_DEEPEST: Final = 64
_MOST_STEPS: Final = 20_000_000
_LONGEST_WANTED: Final = 1024
_INFLATE_STEP: Final = 1024 * 1024


class MalformedError(Exception):
    """The bytes are not a whole data set; the text says why and holds no value of it."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is encoded (PS3.5 annex A)."""

    implicit: bool
    big_endian: bool
    deflated: bool = False

    @staticmethod
    def of(transfer_syntax: str) -> Encoding:
        """Return a transfer syntax's encoding; a private or unknown one is explicit little."""
        return _encoding_of(transfer_syntax)


@lru_cache(maxsize=256)
def _encoding_of(transfer_syntax: str) -> Encoding:
    uid = UID(transfer_syntax)
    if uid.is_private or not uid.is_transfer_syntax:
        return Encoding(implicit=False, big_endian=False)
    return Encoding(uid.is_implicit_VR, not uid.is_little_endian, uid.is_deflated)


def walk(
    data: Bytes, encoding: Encoding, wanted: Collection[int], start: int = 0
) -> dict[int, bytes]:
    """Walk a whole data set; return the values of the wanted top-level elements.

    Args:
        data: What holds the data set, which reaches to its end.
        wanted: Tags; values longer than 1,024 bytes are not returned.
        start: Where the data set begins in `data`.

    Raises:
        MalformedError: It is cut off or is not a data set.
    """
    if encoding.deflated:
        return _walk_deflated(data, wanted, start)
    walker = _Walker(data, len(data), encoding.big_endian, frozenset(wanted))
    walker.top_level(start, walker.guess_implicit(start, encoding.implicit))
    return walker.found


def _walk_deflated(data: Bytes, wanted: Collection[int], start: int) -> dict[int, bytes]:
    """Walk the beginning of a deflated data set; inflate the rest only to see that it is whole.

    At most 2 MiB of inflated bytes are held, so that no small stream fills the memory.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = b""
    position = start
    try:
        while not inflater.eof and (position < len(data) or inflater.unconsumed_tail):
            piece = inflater.unconsumed_tail
            if not piece:
                piece = bytes(data[position : position + _INFLATE_STEP])
                position += len(piece)
            out = inflater.decompress(piece, _INFLATE_STEP)
            if len(head) < _INFLATE_STEP:
                head += out
    except zlib.error:
        raise MalformedError("its deflated bytes are damaged") from None
    if not inflater.eof:
        raise MalformedError("it is cut off: its deflated bytes have no end")
    walker = _Walker(head, len(head), big_endian=False, wanted=frozenset(wanted))
    try:
        walker.top_level(0, walker.guess_implicit(0, implicit=False))
    except MalformedError:
        if len(head) < _INFLATE_STEP:
            raise
    return walker.found


@dataclass(slots=True)
class _Walker:
    data: Bytes
    size: int
    big_endian: bool
    wanted: frozenset[int]
    found: dict[int, bytes] = field(default_factory=dict)
    steps: int = 0

    def guess_implicit(self, start: int, implicit: bool) -> bool:
        """Tell whether VRs are left out; senders err, and pydicom reads both in the same way."""
        vr = bytes(self.data[start + 4 : start + 6])
        return not _is_vr(vr) if len(vr) == 2 else implicit

    def top_level(self, start: int, implicit: bool) -> None:
        if bytes(self.data[start + 128 : start + 132]) == b"DICM":
            raise MalformedError("it begins with a file's preamble")
        position = start if implicit or self.big_endian else self._plain(start)
        while position < self.size:
            if self.size - position < 8 or not self._tag(position):
                # some senders pad a data set with zeros
                rest = bytes(self.data[position : position + 65536])
                if position > start and not any(rest):
                    return
                if self.size - position < 8:
                    raise MalformedError("it is cut off: its last element has no length")
            tag, vr, length, value = self._head(position, implicit)
            if tag < 0x00080000:
                raise MalformedError("it holds elements of a command or of File Meta Information")
            if length == _UNDEFINED:
                position = self._undefined(vr, value, implicit, depth=1)
                continue
            position = value + length
            if position > self.size:
                raise MalformedError("it is cut off: its last element has fewer bytes than said")
            if tag in self.wanted and length <= _LONGEST_WANTED:
                self.found[tag] = bytes(self.data[value:position])

    def _plain(self, position: int) -> int:
        """Walk explicit VR little endian elements of defined length, as most are, at speed.

        Returns where the first element is that needs the full care of `top_level`.
        """
        data, wanted, limit = self.data, self.wanted, self.size - 12
        unpack, long_length = struct.Struct("<HH2sHI").unpack_from, _LONG_LENGTH
        while position <= limit:
            group, number, vr, short, length = unpack(data, position)
            if group < 0x0008 or not _is_vr(vr):
                return position
            if vr in long_length:
                value = position + 12
            else:
                value, length = position + 8, short
            end = value + length
            if length == _UNDEFINED or end > self.size:
                return position
            tag = group << 16 | number
            if tag in wanted and length <= _LONGEST_WANTED:
                self.found[tag] = bytes(data[value:end])
            position = end
        return position

    def _tag(self, position: int) -> int:
        if self.big_endian:
            return int.from_bytes(self.data[position : position + 4], "big")
        group, element = struct.unpack_from("<HH", self.data, position)
        return int(group) << 16 | int(element)

    def _head(self, position: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR, length and the value's place of the element at `position`."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise MalformedError(f"it has more than {_MOST_STEPS} elements")
        end = position + 8
        if end > self.size:
            raise MalformedError("it is cut off: its last element has no length")
        tag = self._tag(position)
        vr = b"" if implicit else bytes(self.data[position + 4 : position + 6])
        order = ">" if self.big_endian else "<"
        if vr in _LONG_LENGTH:
            if end + 4 > self.size:
                raise MalformedError("it is cut off: its last element has no length")
            (length,) = struct.unpack_from(order + "I", self.data, end)
            return tag, vr, int(length), end + 4
        if implicit or not _is_vr(vr):
            (length,) = struct.unpack_from(order + "I", self.data, position + 4)
            return tag, b"", int(length), end
        (length,) = struct.unpack_from(order + "H", self.data, position + 6)
        return tag, vr, int(length), end

    def _undefined(self, vr: bytes, position: int, implicit: bool, depth: int) -> int:
        """Return where a value of undefined length ends, its delimiter included.

        A sequence; or fragments of encapsulated pixels, which are items without elements.
        """
        if depth > _DEEPEST:
            raise MalformedError(f"its sequences are nested more than {_DEEPEST} deep")
        fragments = vr not in (b"SQ", b"UN", b"")
        # PS3.5 section 6.2.2: a sequence of unknown VR is in implicit VR
        inside = implicit or vr in (b"UN", b"")
        while True:
            tag, length = self._item_head(position)
            position += 8
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise MalformedError("a sequence holds something that is not an item")
            if length != _UNDEFINED:
                position += length
                if position > self.size:
                    raise MalformedError("it is cut off within a sequence")
            elif fragments:
                raise MalformedError("a fragment of its pixels has no length")
            else:
                position = self._item(position, inside, depth + 1)

    def _item(self, position: int, implicit: bool, depth: int) -> int:
        """Return where an item of undefined length ends, its delimiter included."""
        while True:
            if position + 8 > self.size:
                raise MalformedError("it is cut off within a sequence")
            if self._tag(position) == _ITEM_END:
                return position + 8
            _, vr, length, value = self._head(position, implicit)
            if length == _UNDEFINED:
                position = self._undefined(vr, value, implicit, depth)
            else:
                position = value + length

    def _item_head(self, position: int) -> tuple[int, int]:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise MalformedError(f"it has more than {_MOST_STEPS} elements")
        if position + 8 > self.size:
            raise MalformedError("it is cut off within a sequence")
        order = ">HHI" if self.big_endian else "<HHI"
        group, element, length = struct.unpack_from(order, self.data, position)
        return int(group) << 16 | int(element), int(length)


def _is_vr(value: bytes) -> bool:
    return len(value) == 2 and 65 <= value[0] <= 90 and 65 <= value[1] <= 90
