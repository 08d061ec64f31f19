"""How the receiver listens and whom it lets in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from dicom_node import __version__
from dicom_node.model.identifiers import derived_uid
from dicom_node.model.peers import Peer

IMPLEMENTATION_CLASS_UID: Final = derived_uid("dicom-node", "implementation")
IMPLEMENTATION_VERSION: Final = f"DICOMNODE_{__version__}"[:16]


class ClientCertificate(StrEnum):
    """Whether a TLS client has to show a certificate of ours."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How the receiver listens with TLS, on a port of its own.

    Attributes:
        port: 0 picks a free one, readable from `Receiver.tls_port`; the standard's is 2762.
        certificate: PEM file with our certificate and those between it and its root.
        key: PEM file with its private key, not encrypted.
        client_ca: PEM file with the certificates that client certificates are verified with.
        handshake_timeout: A handshake that takes longer is broken off, in seconds.
    """

    certificate: Path
    key: Path
    port: int = 0
    client_ca: Path | None = None
    client_certificate: ClientCertificate = ClientCertificate.NONE
    handshake_timeout: float = 10


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """How the receiver listens and whom it lets in; times in seconds, sizes in bytes.

    Attributes:
        ae_titles: Titles that we answer to.
        port: 0 picks a free one, readable from `Receiver.port`.
        reuse_port: Let other receiver processes listen on the same port; the kernel spreads
            the associations over them (SO_REUSEPORT).
        peers: Those that may send; ignored when `promiscuous`.
        check_addresses: A peer must also come from its `host`.
        certified_peers: AE titles that are let in only with a verified client certificate.
        tls: Listen with TLS, too.
        extra_sop_classes: Private SOP classes to store, beside all of the standard's.
        max_associations: Associations in all; more are rejected for the time being.
        max_associations_per_peer: The same for one calling AE title; 0: no own limit.
        max_connections: TCP connections in all, those not yet associated included.
        max_pdu: The longest PDU that we ask for.
        max_dataset: A longer data set is refused with 0xA700; 0: no limit.
        network_timeout: An association on which nothing comes for so long is aborted.
        acse_timeout: A connection without a whole A-ASSOCIATE request for so long is closed.
        stop_timeout: At `stop`, images in hand may be finished for so long.
        min_free_bytes: Below this, images are refused with 0xA700.
        reserve: Bytes of files that are made ready for images (`store.reserve`); 0: none.
        stock: Run pynetdicom's own association, not ours (see `receive.association`).
    """

    ae_titles: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 0
    reuse_port: bool = False
    peers: Mapping[str, Peer] = field(default_factory=dict)
    check_addresses: bool = False
    promiscuous: bool = False
    certified_peers: frozenset[str] = frozenset()
    tls: TlsSettings | None = None
    extra_sop_classes: tuple[str, ...] = ()
    max_associations: int = 64
    max_associations_per_peer: int = 0
    max_connections: int = 1024
    max_pdu: int = 128 * 1024
    max_dataset: int = 0
    network_timeout: float = 120
    acse_timeout: float = 30
    stop_timeout: float = 30
    min_free_bytes: int = 0
    reserve: int = 0
    stock: bool = False
