"""Peers as an admin cares for them: are they there, until when is their certificate good."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import structlog
from cryptography import x509

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.delivery import ScuSettings, destination_for
from dicom_node.errors import ConfigError, NodeError
from dicom_node.model.peers import AnyPeer, WebPeer
from dicom_node.requestor import client_context
from dicom_node.serve.yaml_edit import add_peer
from dicom_node.store import audit, looks
from dicom_node.store.database import Database

_log = structlog.get_logger()

_SOON: Final = 5.0


@dataclass(frozen=True, slots=True)
class Echo:
    """How a peer answered just now.

    Attributes:
        trouble: Why it does not answer; None: it does.
        milliseconds: From the connection to the answer.
        certificate_ends_at: Of the TLS certificate that it showed.
    """

    peer: str
    trouble: str | None
    milliseconds: float
    certificate_ends_at: datetime | None


def echo_now(config: NodeConfig, database: Database, clock: Clock, name: str, by: str) -> Echo:
    """Ask a peer whether it is there (C-ECHO, QIDO-RS), and keep what it said.

    Raises:
        ConfigError: `node.yaml` has no such peer.
    """
    peer = config.peers.get(name)
    if peer is None:
        known = ", ".join(config.peers) or "none"
        raise ConfigError(f"peer {name}", "node.yaml has no such peer", f"known: {known}")
    scu = ScuSettings(
        config.node.ae_title[0], connect_timeout=_SOON, acse_timeout=_SOON, dimse_timeout=_SOON
    )
    begun = time.monotonic()
    try:
        trouble = destination_for(scu, peer).check()
    except NodeError as error:  # a certificate or secret file of ours
        trouble = f"{error.what}: {error.why}"
    took = (time.monotonic() - begun) * 1000
    ends = certificate_end_of(peer)
    now = clock.now()
    with database.write() as session:
        looks.note_look(session, name, trouble, now, ends)
        said = trouble or "it answers"
        audit.record(session, now, "peer_echoed", peer=name, by=by, answer=said)
    return Echo(name, trouble, took, ends)


def certificate_end_of(peer: AnyPeer) -> datetime | None:
    """Return until when the certificate is good that a TLS peer shows; None: it shows none."""
    if peer.tls is None:
        return None
    host, port = _where(peer)
    try:
        with (
            socket.create_connection((host, port), timeout=_SOON) as plain,
            client_context(peer.tls).wrap_socket(plain, server_hostname=host) as line,
        ):
            shown = line.getpeercert(binary_form=True)
    except (OSError, NodeError) as error:  # ssl.SSLError is an OSError
        _log.info("peer_certificate_not_seen", error=type(error).__name__)
        return None
    if shown is None:
        return None
    return x509.load_der_x509_certificate(shown).not_valid_after_utc.astimezone(UTC)


def _where(peer: AnyPeer) -> tuple[str, int]:
    if isinstance(peer, WebPeer):
        parts = urlsplit(peer.url)
        return parts.hostname or "", parts.port or 443
    return peer.host, peer.port


def peer_name_for(ae_title: str, config: NodeConfig) -> str:
    """Return a free name for a peer, made of its AE title."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in ae_title.lower())
    first = plain.strip("-") or "peer"
    names = (first, *(f"{first}-{number}" for number in range(2, 1000)))
    return next(name for name in names if name not in config.peers)


def with_peer(text: str, *, name: str, ae_title: str, host: str, port: int, accept: bool) -> str:
    """Return the text of `node.yaml` with another DICOM peer.

    Raises:
        ConfigError: The name is taken, or the text cannot be added to.
    """
    values: dict[str, str | int] = {"ae_title": ae_title, "host": host, "port": port}
    return add_peer(text, name.strip(), values, accept=accept)
