"""An instance that a peer sends on our request, on its way to disk."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from dicom_node.retrieve.found import Incoming, Storage

_log = structlog.get_logger()


def take(
    storage: Storage, incoming: Incoming, pieces: Iterable[bytes | memoryview], peer: str
) -> int:
    """Store an instance byte for byte; returns its C-STORE status, 0 when it is safe.

    Args:
        pieces: Its data set, without the File Meta Information.
    """
    receipt = storage.begin(incoming)
    try:
        for piece in pieces:
            receipt.write(piece)
        verdict = receipt.finish()
    finally:
        receipt.abandon()
    if verdict.status:
        _log.warning(
            "pulled_instance_refused",
            peer=peer,
            sop_instance_uid=incoming.sop_instance_uid,
            status=verdict.status,
            reason=verdict.reason,
        )
    return verdict.status
