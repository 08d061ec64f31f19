"""A multipart/related body, read as it comes (RFC 2046 section 5.1, PS3.18 section 8.6.1.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

_PIECE: Final = 256 * 1024
_LONGEST_HEADERS: Final = 64 * 1024


class CutOffError(Exception):
    """The body ended before its last boundary, or is no multipart body."""


class Multipart:
    """Yields the parts one after another, each as the pieces of its content.

    A part has to be read to its end before the next one is taken; what was left of it is skipped.

    Args:
        read: Returns up to so many bytes of the body; b"" at its end.
    """

    def __init__(self, read: Callable[[int], bytes], boundary: str) -> None:
        self._read = read
        self._delimiter = b"\r\n--" + boundary.encode("ascii", "replace")
        # the first delimiter may stand at the very beginning
        self._buffer = b"\r\n"

    def __iter__(self) -> Iterator[Iterator[bytes]]:
        self._skip()
        while self._has_another():
            yield self._content()
            self._skip()

    def _skip(self) -> None:
        for _ in self._content():
            pass

    def _content(self) -> Iterator[bytes]:
        """Yield what stands before the next delimiter, which stays in the buffer."""
        while (at := self._buffer.find(self._delimiter)) < 0:
            safe = len(self._buffer) - len(self._delimiter) + 1
            if safe > 0:
                piece, self._buffer = self._buffer[:safe], self._buffer[safe:]
                yield piece
            self._fill()
        piece, self._buffer = self._buffer[:at], self._buffer[at:]
        if piece:
            yield piece

    def _has_another(self) -> bool:
        """Step over a delimiter and the headers behind it; False: it was the last one."""
        self._buffer = self._buffer[len(self._delimiter) :]
        while len(self._buffer) < 2:
            self._fill()
        if self._buffer.startswith(b"--"):
            return False
        # the line of the delimiter ends in CRLF, and so does each header; then an empty line
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _LONGEST_HEADERS:
                raise CutOffError
            self._fill()
        self._buffer = self._buffer[end + 4 :]
        return True

    def _fill(self) -> None:
        piece = self._read(_PIECE)
        if not piece:
            raise CutOffError
        self._buffer += piece


def boundary_of(content_type: str) -> str | None:
    """Return the boundary that a Content-Type names; None when it is no multipart type."""
    kind, *parameters = content_type.split(";")
    if kind.strip().lower() != "multipart/related":
        return None
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip('"') or None
    return None
