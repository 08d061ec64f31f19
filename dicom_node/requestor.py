"""Associations that we request, with or without TLS, whichever stage requests them."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any, Final

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from dicom_node.errors import AssociationError, ConfigError, ServiceRefusedError
from dicom_node.model.peers import Peer, PeerTls

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption; TLS 1.3 has no other."""


@dataclass(frozen=True, slots=True)
class ScuSettings:
    """How we call peers; times in seconds."""

    ae_title: str
    connect_timeout: float = 10
    acse_timeout: float = 15
    dimse_timeout: float = 60


def associate(
    settings: ScuSettings,
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[Any] = (),
) -> Association:
    """Open an association with a peer, by TLS where the peer is configured so.

    Args:
        roles: Made by `pynetdicom.build_role`, where we do not act as the SCU only.
        handlers: Event handlers, as pynetdicom takes them.

    Returns:
        An association that is established; whoever asked for it releases it.

    Raises:
        ServiceRefusedError: The peer accepted none of the contexts.
        AssociationError: There is no association; `why` tells the reason, such as a file of the
            peer's `tls` that cannot be used.
    """
    try:
        tls = client_context(peer.tls) if peer.tls is not None else None
    except ConfigError as error:
        raise AssociationError(_name(peer), f"{error.what}: {error.why}", error.fix) from None
    ae = AE(settings.ae_title)
    ae.connection_timeout = settings.connect_timeout
    ae.acse_timeout = settings.acse_timeout
    ae.dimse_timeout = ae.network_timeout = settings.dimse_timeout
    connected = threading.Event()
    try:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            ext_neg=list(roles),
            tls_args=(tls, peer.host) if tls is not None else None,
            evt_handlers=[(evt.EVT_CONN_OPEN, lambda _: connected.set()), *handlers],
        )
    except OSError as error:
        why = f"no association: {error.strerror or type(error).__name__}"
        raise _no_association(peer, why) from None
    keep_answers(association)
    if association.is_established:
        return association
    if tls is not None and tls.trouble is not None and peer.tls is not None:
        raise _no_association(peer, f"no association: {tls_trouble(tls.trouble, peer.tls)}")
    answer = association.acceptor.primitive
    if answer is not None and answer.result == 0:
        raise ServiceRefusedError(
            _name(peer),
            "it accepts none of the services that we proposed",
            "let it accept them, or do not ask for them",
        )
    if association.is_rejected and answer is not None:
        key = (answer.result_source or 0, answer.diagnostic or 0)
        words = _REASONS.get(key, f"source {key[0]}, reason {key[1]}")
        raise _no_association(peer, f"the peer rejected the association: {words}")
    if not connected.is_set():
        raise _no_association(peer, "no association: the connection failed")
    raise _no_association(peer, "no association: the peer broke off, or did not answer in time")


def _name(peer: Peer) -> str:
    return f"peer {peer.ae_title} at {peer.host}:{peer.port}"


def _no_association(peer: Peer, why: str) -> AssociationError:
    return AssociationError(
        _name(peer), why, "check host, port and AE titles on both sides, and the firewall between"
    )


_REASONS: Final[dict[tuple[int, int], str]] = {
    (1, 3): "it does not know our AE title (calling AE title not recognised)",
    (1, 7): "it does not know its AE title as we call it (called AE title not recognised)",
    (3, 1): "it is congested",
    (3, 2): "its limit of associations is reached",
}
"""(source, reason) of an A-ASSOCIATE-RJ in words (PS3.8 Table 9-21)."""


class _Answers(Queue[Any]):
    """Incoming messages that only one who waits for an answer may take, until it is opened."""

    opened = False

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block and not self.opened:
            raise Empty
        return super().get(block, timeout)


def keep_answers(association: Association) -> None:
    """Keep an association's own thread from taking the answers to our requests.

    That thread of pynetdicom looks for requests of the peer, and pauses while `send_c_store` and
    the like wait for their answer. The pause has a gap: it counts as paused just before it goes
    on, and on a busy machine takes the answer, which is then waited for until the time-out. As a
    requestor we serve no requests, so it finds nothing.
    """
    association.dimse.msg_queue = _Answers()


def serve_requests(association: Association) -> None:
    """Let an association's own thread serve the peer's requests; nothing of ours may follow."""
    queue = association.dimse.msg_queue
    if isinstance(queue, _Answers):
        queue.opened = True


class _NotingSocket(ssl.SSLSocket):
    """Notes what went wrong with TLS: pynetdicom only tells that something did."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLError as error:
            self._note(error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            # with TLS 1.3 a peer refuses our certificate after our handshake
            self._note(error)
            raise

    def _note(self, error: ssl.SSLError) -> None:
        if isinstance(self.context, ClientContext):
            self.context.trouble = error


class ClientContext(ssl.SSLContext):
    """TLS of one connection; `trouble` is what broke it."""

    trouble: ssl.SSLError | None = None
    sslsocket_class = _NotingSocket


def client_context(tls: PeerTls) -> ClientContext:
    """Make a context from the files as they are now, by BCP 195 (RFC 8996, RFC 9325).

    Raises:
        ConfigError: A file cannot be read or does not hold what it should.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.check_hostname = tls.check_host_name
    what = "TLS"
    try:
        if tls.ca is None:
            context.load_default_certs()
        else:
            what = f"TLS CA {tls.ca}"
            context.load_verify_locations(tls.ca)
        if tls.certificate is not None:
            what = f"TLS certificate {tls.certificate} with key {tls.key}"
            context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = str(getattr(error, "strerror", None) or error)
        raise ConfigError(what, why, "give PEM files, the key not encrypted") from None
    return context


def tls_trouble(error: ssl.SSLError, tls: PeerTls) -> str:
    """Say what broke a TLS connection, and which file has to do with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        by = f"CA file {tls.ca}" if tls.ca else "the system's CA certificates"
        return f"its TLS certificate does not pass: {error.verify_message} (checked with {by})"
    reason = (error.reason or type(error).__name__).replace("_", " ").lower()
    if "certificate" in reason or "unknown ca" in reason:
        ours = f"our TLS certificate {tls.certificate}" if tls.certificate else "us without one"
        return f"it refuses {ours}: {reason}"
    if reason == "wrong version number":
        return "it does not speak TLS on this port"
    return f"TLS failed: {reason}"


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
