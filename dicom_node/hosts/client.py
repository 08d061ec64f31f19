"""Asks other hosts for their files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import structlog

from dicom_node.config.hosts import HostsSection
from dicom_node.errors import ConfigError, HostAwayError, ImageError
from dicom_node.model.peers import PeerTls
from dicom_node.requestor import client_context
from dicom_node.secret import secret_of
from dicom_node.store import hosts
from dicom_node.store.database import Database
from dicom_node.store.kept import KeptFile

_log = structlog.get_logger()

_TIMEOUT: Final = httpx.Timeout(10, connect=5)
_REREADING: Final = httpx.Timeout(600, connect=5)
"""A whole instance is read from a disk before the answer begins."""
_LEFT_ALONE: Final = 5.0
"""Seconds that a host which did not answer is not asked again: each of many files would wait."""
_FIX: Final = "start that host, or see to the network; what waits for it goes on by itself"


class HostClient:
    """Asks other hosts; may be used by several threads.

    Raises:
        ConfigError: The CA or the token cannot be read.
    """

    def __init__(self, section: HostsSection, database: Database) -> None:
        self._token_file = section.token_file
        self._database = database
        self._http = httpx.Client(
            verify=client_context(PeerTls(ca=section.ca)), timeout=_TIMEOUT, trust_env=False
        )
        self._away: dict[str, tuple[float, str]] = {}

    def fetch(self, kept: KeptFile, into: Path) -> None:
        """Write a file's bytes, which are not looked at.

        Raises:
            HostAwayError: Its host does not answer.
            ImageError: Its host has it no more, or nobody knows that host.
            OSError: It cannot be written.
        """
        with self._asked(kept) as reply, into.open("wb") as file:
            for chunk in reply.iter_raw():
                file.write(chunk)

    def disk_sha256(self, kept: KeptFile) -> str:
        """Have its host read an instance from the disk again; "" when the disk refuses.

        Raises:
            HostAwayError, ImageError: As above.
        """
        with self._asked(kept, "/disk", _REREADING) as reply:
            return reply.read().decode("ascii", "replace")

    def ask(self, address: str) -> str | None:
        """Ask a host whether it is there; None: yes, else why not."""
        try:
            reply = self._http.get(f"https://{address}/", headers=self._headers())
        except httpx.HTTPError as error:
            return _why(error)
        return None if reply.status_code == 204 else _refusal(reply.status_code)

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def _asked(
        self, kept: KeptFile, more: str = "", timeout: httpx.Timeout = _TIMEOUT
    ) -> Iterator[httpx.Response]:
        name = kept.host or ""
        since, why = self._away.get(name, (0.0, ""))
        if why and time.monotonic() - since < _LEFT_ALONE:
            raise _is_away(name, why)
        with self._database.read() as session:
            address = hosts.address_of(session, name)
        if address is None:
            why = f"host {name}, which held it, was taken out of the node"
            raise ImageError(kept.name, why, "send the study again; of a report run its job again")
        url = f"https://{address}/{kept.kind}/{kept.id}/{kept.sha256}{more}"
        try:
            headers = self._headers()
        except ConfigError as error:
            raise self._noted(name, f"{error.what}: {error.why}") from None
        try:
            with self._http.stream("GET", url, headers=headers, timeout=timeout) as reply:
                if reply.status_code == 404:
                    raise ImageError(
                        kept.name, f"host {name} has its file no more", "send the study again"
                    )
                if reply.status_code != 200:
                    raise self._noted(name, _refusal(reply.status_code))
                yield reply
        except httpx.HTTPError as error:
            raise self._noted(name, _why(error)) from None
        self._away.pop(name, None)

    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {secret_of(self._token_file)}",
            "Accept-Encoding": "identity",
        }

    def _noted(self, name: str, why: str) -> HostAwayError:
        if name not in self._away:
            _log.warning("host_away", host=name, why=why)
        self._away[name] = time.monotonic(), why
        return _is_away(name, why)


def _is_away(name: str, why: str) -> HostAwayError:
    return HostAwayError(f"host {name}", f"it holds files and does not answer: {why}", _FIX)


def _refusal(status: int) -> str:
    if status == 401:
        return "it does not take our token (`hosts.token_file` must be the same on all hosts)"
    if status == 503:
        return "it cannot reach the database"
    return f"HTTP status {status}"


def _why(error: httpx.HTTPError) -> str:
    """Of a library's error never more than its kind: what it quotes is not ours to vouch for."""
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx.ConnectError):
        return "its certificate does not pass" if "CERTIFICATE" in str(error) else "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return "the connection broke"
