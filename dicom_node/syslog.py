"""Syslog: messages of RFC 5424 by UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425)."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal

from dicom_node.errors import NodeError
from dicom_node.model.peers import PeerTls
from dicom_node.requestor import client_context, tls_trouble

_TIMEOUT: Final = 15.0
_LONGEST_DATAGRAM: Final = 65_507
"""Of UDP over IPv4: a longer message needs TCP or TLS."""
_BOM: Final = b"\xef\xbb\xbf"


class Facility(IntEnum):
    """RFC 5424 Table 1, as far as it concerns us."""

    DAEMON = 3
    AUTH_PRIVATE = 10


class Level(IntEnum):
    """Severities of RFC 5424 Table 2, as far as they concern us."""

    CRITICAL = 2
    WARNING = 4
    NOTICE = 5


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where messages go, as node.yaml says."""

    host: str
    port: int
    transport: Literal["tls", "tcp", "udp"]
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def name(self) -> str:
        return f"syslog receiver {self.host}:{self.port}"


def message(
    facility: Facility,
    level: Level,
    at: datetime,
    message_id: str,
    text: str,
    *,
    bom: bool = True,
) -> bytes:
    """Return one message: header and text, without the transport's frame.

    Args:
        message_id: Type of the message, such as "DICOM+RFC3881".
        bom: The text is marked as UTF-8 (RFC 5424 section 6.4); XML says so itself.
    """
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = _printable(socket.gethostname(), 255)
    fields = (f"<{facility * 8 + level}>1", stamp, host, "dicom-node", str(os.getpid()))
    head = " ".join((*fields, _printable(message_id, 32), "-"))
    return head.encode("ascii") + b" " + (_BOM if bom else b"") + text.encode("utf-8")


def send(receiver: Receiver, messages: Sequence[bytes]) -> None:
    """Send messages over one connection.

    By TCP and TLS they count as sent when the receiver has, in turn, closed the connection that
    we have closed: what it had not read by then would be lost, and no word of it would come.
    By UDP nobody knows.

    Raises:
        NodeError: They may not all have arrived: to be sent again.
    """
    try:
        if receiver.transport == "udp":
            _send_datagrams(receiver, messages)
        else:
            with _connection(receiver) as connection:
                for item in messages:
                    connection.sendall(b"%d " % len(item) + item)
                _wait_for_the_end(connection)
    except ssl.SSLError as error:
        tls = PeerTls(ca=receiver.ca, certificate=receiver.certificate, key=receiver.key)
        raise _failed(receiver, tls_trouble(error, tls)) from None
    except OSError as error:
        why = "it does not answer in time" if isinstance(error, TimeoutError) else error.strerror
        raise _failed(receiver, why or type(error).__name__) from None


def _send_datagrams(receiver: Receiver, messages: Sequence[bytes]) -> None:
    found = socket.getaddrinfo(receiver.host, receiver.port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as out:
        for item in messages:
            if len(item) > _LONGEST_DATAGRAM:
                raise _failed(receiver, f"a message of {len(item)} bytes is too long for UDP")
            out.sendto(item, address)


@contextlib.contextmanager
def _connection(receiver: Receiver) -> Iterator[socket.socket]:
    with socket.create_connection((receiver.host, receiver.port), timeout=_TIMEOUT) as plain:
        if receiver.transport == "tcp":
            yield plain
            return
        tls = PeerTls(ca=receiver.ca, certificate=receiver.certificate, key=receiver.key)
        with client_context(tls).wrap_socket(plain, server_hostname=receiver.host) as secure:
            yield secure


def _wait_for_the_end(connection: socket.socket) -> None:
    if isinstance(connection, ssl.SSLSocket):
        try:
            connection.unwrap()
        except ssl.SSLEOFError:
            return  # it closed without a word of TLS, after all was read
        except ssl.SSLZeroReturnError:
            return
        return
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def _failed(receiver: Receiver, why: str) -> NodeError:
    return NodeError(receiver.name, why, "check its address, `transport` and certificates")


def _printable(text: str, longest: int) -> str:
    """Return a header field of RFC 5424: PRINTUSASCII, never empty."""
    kept = "".join(character for character in text if "!" <= character <= "~")
    return kept[:longest] or "-"
