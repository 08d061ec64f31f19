"""What waits for a peer that the configuration does not have any more, or that is not asked."""

from __future__ import annotations

from typing import Final

import structlog

from dicom_node.clock import Clock
from dicom_node.store import asked_commitments, outbox
from dicom_node.store.database import Database

_log = structlog.get_logger()

_NO_PEER: Final = "the node.yaml that the node runs with has no such peer"
_NOT_ASKED: Final = "node.yaml does not let it be asked to commit (`storage_commitment`)"


def fail_waiting(database: Database, name: str, clock: Clock) -> None:
    """Fail what waits to be sent to a peer that is gone."""
    with database.write() as session:
        failed = outbox.fail_all(session, name, _NO_PEER, clock.now())
    _tell_failed(name, failed, _NO_PEER)


def end_vain_wait(database: Database, name: str, clock: Clock, *, gone: bool) -> None:
    """End what waits for the commitment of a peer that nobody asks: it would wait for ever.

    Args:
        gone: Nobody can tell whether it keeps what it got: that fails. One that is there, and is
            not to be asked any more, is believed.
    """
    why = f"not committed: {_NO_PEER}" if gone else _NOT_ASKED
    end = asked_commitments.give_up if gone else asked_commitments.ask_no_more
    number = 0
    while True:
        with database.write() as session:
            ids = asked_commitments.uncommitted(session, name)
            end(session, ids, why, clock.now())
        if not ids:
            break
        number += len(ids)
    if gone:
        _tell_failed(name, number, why)
    elif number:
        _log.warning("commitment_not_asked", peer=name, objects=number, why=why)


def _tell_failed(name: str, number: int, why: str) -> None:
    if number:
        fix = f"add the peer, reload, then `retry --peer {name}`"
        _log.error("report_failed", peer=name, objects=number, answer=why, fix=fix)
