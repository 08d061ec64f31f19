"""What `node.yaml` says of receiving, as the receiver takes it."""

from __future__ import annotations

from dicom_node.config import NodeConfig
from dicom_node.receive.settings import ClientCertificate, ReceiverSettings, TlsSettings

_KIB = 1024
_MIB = 1024 * 1024


def receiver_settings(config: NodeConfig) -> ReceiverSettings:
    """Translate the sections `node`, `receive`, `peers` and `accept_from`."""
    node, receive = config.node, config.receive
    return ReceiverSettings(
        ae_titles=tuple(node.ae_title),
        host=node.host,
        port=node.port,
        reuse_port=receive.processes > 1,
        peers=config.senders,
        check_addresses=receive.check_addresses,
        promiscuous=config.anyone_may_send,
        certified_peers=frozenset(
            peer.ae_title for peer in config.dicom_peers.values() if peer.needs_certificate
        ),
        tls=_tls(config),
        extra_sop_classes=tuple(receive.sop_classes),
        max_associations=node.max_associations,
        max_associations_per_peer=receive.max_associations_per_peer,
        max_connections=receive.max_connections,
        max_pdu=receive.max_pdu_kb * _KIB,
        max_dataset=receive.max_dataset_mb * _MIB,
        network_timeout=receive.idle_seconds,
        acse_timeout=receive.request_seconds,
        min_free_bytes=node.min_free_mb * _MIB,
        reserve=receive.reserve_mb * _MIB,
    )


def _tls(config: NodeConfig) -> TlsSettings | None:
    tls = config.receive.tls
    if tls is None:
        return None
    return TlsSettings(
        port=tls.port,
        certificate=tls.certificate,
        key=tls.key,
        client_ca=tls.client_ca,
        client_certificate=ClientCertificate(tls.client_certificate),
        handshake_timeout=tls.handshake_timeout_seconds,
    )
