"""GET requests to a DICOMweb server."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from dicom_node.errors import RetrieveError, UnreachableError
from dicom_node.model.peers import PeerTls, WebPeer
from dicom_node.requestor import client_context, tls_trouble

_PASSING: Final = (408, 429)
"""With all of 500 and above: the server may answer later (RFC 9110)."""
_FIX: Final = "see whether the server runs; `dicom-node check` tries it"

Authorization = Callable[[], Mapping[str, str]]
"""Returns the Authorization header of a peer, or none."""


class Web:
    """Asks one server; a connection for each request.

    Args:
        name: The peer's in `node.yaml`.
        timeout: Seconds without a byte, at the connection and in the answer.
    """

    def __init__(
        self, name: str, peer: WebPeer, authorization: Authorization, timeout: float = 60
    ) -> None:
        self.name = name
        self._peer = peer
        self._authorization = authorization
        self._timeout = timeout
        self._url = urlsplit(peer.url)

    @contextmanager
    def get(self, path: str, accept: str) -> Iterator[http.client.HTTPResponse]:
        """Make a request; the answer is one of success, to be read within the context.

        Raises:
            ConfigError: A file for TLS or of the secret cannot be used.
            RetrieveError: The server says no.
            UnreachableError: There is no answer, or it breaks off.
        """
        tls = self._peer.tls or PeerTls()
        connection = self._connection(tls)
        try:
            headers = {"Accept": accept, **self._authorization()}
            connection.request("GET", self._url.path + path, headers=headers)
            response = connection.getresponse()
            self._check(response.status)
            yield response
        except ssl.SSLError as error:
            raise self._gone(tls_trouble(error, tls)) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise self._gone(why) from None
        finally:
            connection.close()

    def _connection(self, tls: PeerTls) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=self._timeout, context=client_context(tls)
            )
        return http.client.HTTPConnection(host, port, timeout=self._timeout)

    def _check(self, status: int) -> None:
        if 200 <= status < 300:
            return
        words = f"HTTP status {status} ({http.client.responses.get(status, 'unknown')})"
        if status in _PASSING or status >= 500:
            raise self._gone(words)
        fix = "look at the peer's `auth`" if status in (401, 403) else "look at the peer's `url`"
        raise RetrieveError(f"peer {self.name}", words, fix)

    def _gone(self, why: str) -> UnreachableError:
        return UnreachableError(f"peer {self.name}", f"no answer: {why}", _FIX)
