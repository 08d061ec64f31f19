"""A message as JSON to the one address that node.yaml names."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from dicom_node.alerts.notes import Notice
from dicom_node.config.watching import WebhookChannel
from dicom_node.errors import ConfigError, NodeError
from dicom_node.model.alerts import Change, Severity
from dicom_node.model.peers import PeerTls, is_web_address
from dicom_node.requestor import client_context, tls_trouble
from dicom_node.secret import secret_of

_CONNECT: Final = 10.0
_WHOLE: Final = 20.0
"""Seconds for a request and its answer together: a server that drips is cut off."""
_FIX: Final = "check the address, and whether the service still takes messages under it"


class Webhook:
    """Posts a message.

    Nothing that comes from outside has a say in where it goes: the address is that of node.yaml,
    a reply that leads elsewhere (HTTP 3xx) is an error, and no proxy of the environment is used.
    """

    def __init__(self, section: WebhookChannel) -> None:
        self._section = section

    @property
    def host(self) -> str:
        """The server, without the path, which may be a secret."""
        return self._address().netloc

    def send(self, notice: Notice) -> None:
        """Send it.

        Raises:
            NodeError: The server cannot be reached, or does not take it.
        """
        section = self._section
        address = self._address()
        what = f"webhook of {address.netloc}"
        headers = {"Content-Type": "application/json", "User-Agent": "dicom-node"}
        if section.token_file is not None:
            headers["Authorization"] = f"Bearer {secret_of(section.token_file)}"
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        body = json.dumps(_body(section.style, notice)).encode()
        try:
            with closing(self._connection(address)) as connection:
                connection.connect()
                with _cut_off(connection.sock, _WHOLE):
                    connection.request("POST", target, body, headers)
                    status = connection.getresponse().status
        except ssl.SSLError as error:
            raise NodeError(what, tls_trouble(error, PeerTls(ca=section.ca)), _FIX) from None
        except (OSError, http.client.HTTPException) as error:
            timed_out = isinstance(error, TimeoutError)
            why = "it does not answer in time" if timed_out else getattr(error, "strerror", None)
            raise NodeError(what, why or "no answer", _FIX) from None
        except UnicodeError:  # its text would quote the secret
            why = "the address or the token has a character that is not ASCII"
            raise NodeError(what, why, "write them as the service gave them") from None
        if 300 <= status < 400:
            raise NodeError(what, f"it leads elsewhere (HTTP status {status})", _FIX)
        if not 200 <= status < 300:
            raise NodeError(what, f"it answers with HTTP status {status}", _FIX)

    def _address(self) -> SplitResult:
        section = self._section
        if section.url_file is None:
            return urlsplit(section.webhook or "")
        secret = secret_of(section.url_file)
        if not is_web_address(secret):
            raise ConfigError(
                f"webhook address in {section.url_file}", "it is none", "write https://HOST/PATH"
            )
        return urlsplit(secret)

    def _connection(self, address: SplitResult) -> http.client.HTTPConnection:
        host = address.hostname or ""
        if address.scheme == "http":
            return http.client.HTTPConnection(host, address.port, timeout=_CONNECT)
        context = client_context(PeerTls(ca=self._section.ca))
        return http.client.HTTPSConnection(host, address.port, timeout=_CONNECT, context=context)


@contextmanager
def _cut_off(connection: socket.socket, seconds: float) -> Iterator[None]:
    """End a connection that is still open after some seconds."""

    def end() -> None:
        with suppress(OSError):  # it has ended by itself meanwhile
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _body(style: str, notice: Notice) -> dict[str, Any]:
    text = "\n".join(notice.lines)
    if style == "plain":
        return {"title": notice.title, **notice.plain()}
    if style == "slack":
        return {"text": f"*{_escaped(notice.title)}*\n{_escaped(text)}"}
    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        {
                            "type": "TextBlock",
                            "text": notice.title,
                            "weight": "Bolder",
                            "wrap": True,
                            "color": _colour(notice),
                        },
                        *(
                            {"type": "TextBlock", "text": line, "wrap": True}
                            for line in notice.lines
                        ),
                    ],
                },
            }
        ],
    }


def _colour(notice: Notice) -> str:
    if notice.change is Change.RECOVERED:
        return "Good"
    return "Attention" if notice.severity is Severity.CRITICAL else "Warning"


def _escaped(text: str) -> str:
    """Escape what Slack gives a meaning."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
