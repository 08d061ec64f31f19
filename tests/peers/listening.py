"""Receivers of alerts and audit messages on loopback ports: syslog, mail, webhook."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from dicom_node.demo.ports import free_port
from tests.peers.certificates import Certificates, Pair


@dataclass
class SyslogReceiver:
    """What came, whole messages without their frame.

    Attributes:
        deaf: Connections are taken and broken off before anything is read.
    """

    port: int
    messages: list[bytes] = field(default_factory=list)
    deaf: bool = False


def tls_context(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


@contextmanager
def syslog_stream(certificates: Certificates | None = None) -> Iterator[SyslogReceiver]:
    """Listen for octet-counted frames (RFC 5425, RFC 6587), by TLS where certificates are given."""
    context = tls_context(certificates.server) if certificates else None
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = SyslogReceiver(server.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    plain, _ = server.accept()
                except OSError:
                    return
                with plain, suppress(OSError):
                    if receiver.deaf:
                        continue
                    plain.settimeout(30)
                    connection = context.wrap_socket(plain, server_side=True) if context else plain
                    receiver.messages += _frames(connection)
                    if isinstance(connection, ssl.SSLSocket):
                        connection.unwrap()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join(30)


def _frames(connection: socket.socket) -> list[bytes]:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    found = []
    while data:
        length, _, rest = data.partition(b" ")
        size = int(length)
        assert len(rest) >= size, "a frame was cut off"
        found.append(rest[:size])
        data = rest[size:]
    return found


@contextmanager
def syslog_datagrams() -> Iterator[SyslogReceiver]:
    """Listen for datagrams (RFC 5426)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.2)
        receiver = SyslogReceiver(server.getsockname()[1])
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    receiver.messages.append(server.recv(65536))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            over.set()
            thread.join(30)


@dataclass
class Mailbox:
    """A mail server and what it took: (recipients, mail)."""

    port: int
    mails: list[tuple[list[str], Message]] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    refuses: bool = False


@contextmanager
def mail_server(
    certificates: Certificates | None = None,
    *,
    starttls: bool = True,
    password: bytes | None = None,
) -> Iterator[Mailbox]:
    """Run a mail server: plain, or with TLS by STARTTLS or from the first byte."""
    box = Mailbox(free_port())

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
            if box.refuses:
                return "451 come again later"
            content = envelope.original_content or b""
            box.mails.append((list(envelope.rcpt_tos), message_from_bytes(content)))
            return "250 taken"

    def authenticate(server: Any, session: Any, envelope: Any, kind: str, data: Any) -> AuthResult:
        box.logins.append((data.login, data.password))
        right = data.password == password
        return AuthResult(success=right, handled=right)

    settings: dict[str, Any] = {}
    if certificates is not None:
        context = tls_context(certificates.server)
        if starttls:
            settings.update(tls_context=context, require_starttls=True)
        else:
            settings.update(ssl_context=context)
    if password is not None:
        settings.update(authenticator=authenticate, auth_require_tls=starttls)
    controller = Controller(Handler(), hostname="127.0.0.1", port=box.port, **settings)
    if certificates is not None and not starttls:
        controller._trigger_server = lambda: _greet(box.port)  # its own speaks no TLS here
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def _greet(port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        context.wrap_socket(plain) as secure,
    ):
        assert secure.recv(64).startswith(b"220")


@dataclass
class Hook:
    """A web server and what was posted to it: (path, headers, JSON)."""

    port: int
    posts: list[tuple[str, Mapping[str, str], Any]] = field(default_factory=list)
    status: int = 200
    location: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret?room=1"


@contextmanager
def web_hook() -> Iterator[Hook]:
    """Run a server that takes posts, and answers as it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            hook.posts.append((self.path, dict(self.headers), body))
            self.send_response(hook.status)
            if hook.location:
                self.send_header("Location", hook.location)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Hook(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
