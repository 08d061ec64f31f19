"""`status` says what a peer noted about an object that it has."""

from __future__ import annotations

from dicom_node.store import asked_commitments, outbox
from tests.unit.cli.command import dicom_node
from tests.unit.cli.conftest import Ran


def test_a_warning_and_a_missing_commitment_are_shown(ran: Ran) -> None:
    now = ran.clock.now()
    with ran.database.write() as session:
        outbox.mark_sent(session, 3, "status 0xB007 (Warning)", now, ask=True)
        asked_commitments.ask_no_more(session, [3], "the peer has no storage commitment", now)
    shown = dicom_node("status", "--config", ran.config_file).out
    assert "status 0xB007 (Warning); the peer has no storage commitment" in " ".join(shown.split())
    assert "status 0x0000 (Success)" not in shown
