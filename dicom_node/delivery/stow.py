"""STOW-RS: report objects to a DICOMweb server over HTTP (PS3.18 section 10.5)."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydicom.uid import generate_uid

from dicom_node.delivery.answers import Answer, Outgoing, Verdict
from dicom_node.delivery.stow_answer import Reply, read_reply
from dicom_node.delivery.web_auth import authorization
from dicom_node.errors import ConfigError
from dicom_node.model.peers import PeerTls, WebPeer
from dicom_node.requestor import client_context, tls_trouble

_PIECE: Final = 256 * 1024
"""Bytes of a file that are in memory at a time."""
_LONGEST_REPLY: Final = 4 * 1024 * 1024
_IN_ONE_REQUEST: Final = 20
_BYTES_IN_ONE_REQUEST: Final = 64 * 1024 * 1024
"""Of several objects; a request that breaks off is made again from its beginning."""
_UNREADABLE: Final = "the report's file cannot be read"


@dataclass(frozen=True, slots=True)
class WebTimeouts:
    """In seconds; `answer` is for each read, too: a server stores before it answers."""

    connect: float = 10
    answer: float = 120


@dataclass(frozen=True, slots=True)
class _Part:
    """A file as a part of a request."""

    item: Outgoing
    size: int


class StowRs:
    """A peer that is sent to by STOW-RS: a kind of `Destination`."""

    def __init__(self, peer: WebPeer, timeouts: WebTimeouts | None = None) -> None:
        self._peer = peer
        self._timeouts = timeouts or WebTimeouts()
        parts = urlsplit(peer.url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path
        self._secure = parts.scheme == "https"

    def send(self, objects: Sequence[Outgoing]) -> Iterator[Answer]:
        """Send objects, some in each request; a refused request is made again one by one."""
        parts: list[_Part] = []
        for item in objects:
            try:
                parts.append(_Part(item, item.file.stat().st_size))
            except FileNotFoundError:
                yield Answer(item.id, Verdict.NEVER, "the report's file is gone")
            except OSError:
                yield Answer(item.id, Verdict.TRY_AGAIN, _UNREADABLE)
        for some in _requests(parts):
            yield from self._send_some(some)

    def check(self) -> str | None:
        """Search for one study (QIDO-RS, PS3.18 section 10.6), which changes nothing."""
        try:
            asked = self._exchange("GET", "/studies?limit=1", {"Accept": "application/dicom+json"})
        except _BrokenOffError as error:
            return str(error)
        if isinstance(asked, str):
            return asked
        return None if asked.status in (200, 204) else asked.refusal()

    def _send_some(self, parts: Sequence[_Part]) -> Iterator[Answer]:
        boundary = generate_uid(prefix=None)
        pieces = [_part_head(boundary), b"\r\n" + _part_head(boundary), _end(boundary)]
        length = sum(part.size for part in parts) + sum(map(len, (pieces[0], pieces[2])))
        length += (len(parts) - 1) * len(pieces[1])
        headers = {
            "Accept": "application/dicom+json",
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(length),
        }
        body = _body(parts, pieces)
        try:
            reply = self._exchange("POST", "/studies", headers, body)
        except (_FileError, _BrokenOffError) as error:
            # the peer is there, and one file that stops us, or it, must not hold up the others
            if len(parts) > 1:
                for part in parts:
                    yield from self._send_some([part])
            else:
                yield Answer(parts[0].item.id, Verdict.TRY_AGAIN, str(error))
            return
        if isinstance(reply, str):
            for part in parts:
                yield Answer(part.item.id, Verdict.TRY_AGAIN, reply, away=True)
        elif reply.is_about_one_of_several and len(parts) > 1:
            # one of them is too large or not understood: which, only single requests tell
            for part in parts:
                yield from self._send_some([part])
        else:
            for part in parts:
                yield replace(reply.answer_for(part.item), sop_class_uid=part.item.sop_class_uid)

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: Iterator[bytes] | None = None
    ) -> Reply | str:
        """Make a request; returns why not when there was no reply.

        Raises:
            _FileError: A file of the body could not be read: no fault of the peer.
            _BrokenOffError: The peer was there and broke off: perhaps for what it was sent.
        """
        try:
            headers = headers | authorization(self._peer)
            context = client_context(self._peer.tls or PeerTls()) if self._secure else None
        except ConfigError as error:
            return f"{error.what}: {error.why}"
        connection = self._connection(context)
        is_there = False
        try:
            connection.connect()
            is_there = True
            if connection.sock is not None:
                connection.sock.settimeout(self._timeouts.answer)
            try:
                connection.request(method, self._path + path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                # a server may refuse before it has read everything; then it has said why
                if connection.sock is None:
                    raise
            reply = connection.getresponse()
            return read_reply(reply.status, reply.headers, reply.read(_LONGEST_REPLY))
        except ssl.SSLError as error:
            return f"no connection: {tls_trouble(error, self._peer.tls or PeerTls())}"
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            text = f"no answer from {self._host}: {why}"
            if is_there and not isinstance(error, TimeoutError):
                raise _BrokenOffError(text) from None
            return text
        finally:
            connection.close()

    def _connection(self, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
        seconds = self._timeouts.connect
        if context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        return http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=context)


class _FileError(Exception):
    """A file could not be read to its end while it was sent."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{_UNREADABLE}: {why}")


class _BrokenOffError(Exception):
    """The peer took the connection and ended it without an answer."""


def _requests(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Divide what is to be sent into requests."""
    some: list[_Part] = []
    for part in parts:
        full = sum(one.size for one in some) + part.size > _BYTES_IN_ONE_REQUEST
        if some and (full or len(some) == _IN_ONE_REQUEST):
            yield some
            some = []
        some.append(part)
    if some:
        yield some


def _part_head(boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")


def _end(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode("ascii")


def _body(parts: Sequence[_Part], pieces: Sequence[bytes]) -> Iterator[bytes]:
    """The request's body, read from the files as it is sent."""
    for number, part in enumerate(parts):
        yield pieces[min(number, 1)]
        yield from _file(part.item.file, part.size)
    yield pieces[2]


def _file(file: Path, size: int) -> Iterator[bytes]:
    left = size
    try:
        with file.open("rb") as stream:
            while left and (piece := stream.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise _FileError(error.strerror or type(error).__name__) from None
    if left:
        raise _FileError("it has become shorter")
