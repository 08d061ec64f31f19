"""Peers are asked to commit to what they were sent; each way they may answer or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node.clock import SystemClock
from dicom_node.delivery import offers_commitment
from dicom_node.demo.ports import free_port
from dicom_node.model.commitment import WELL_KNOWN_INSTANCE
from dicom_node.model.states import DeliveryState
from dicom_node.store.tables import Delivery
from tests.peers.calling import US
from tests.peers.committing import MakeSite, Site, sites
from tests.peers.ports import wait_for


@dataclass
class Pacs:
    """A PACS whose storage commitment a test plays.

    Attributes:
        on_action: Called with each request; its result is the N-ACTION's status.
    """

    on_action: Callable[[Pacs, evt.Event, Dataset], int] = lambda *_: 0x0000
    stored: list[str] = field(default_factory=list)
    asked: list[Dataset] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    site: Site | None = None

    def store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def action(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        self.asked.append(asked)
        return self.on_action(self, event, asked), None

    def report(self, asked: Dataset, failed: dict[str, int] | None = None) -> None:
        """Report by an association of our own, in the role of the SCP."""
        ae = AE("PACS")
        ae.add_requested_context(StorageCommitmentPushModel)
        assert self.site is not None
        association = ae.associate(
            "127.0.0.1",
            self.site.config.node.port,
            ae_title="AINODE",
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        )
        assert association.is_established
        told, kind = information(asked, failed or {})
        status, _ = association.send_n_event_report(
            told, kind, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE
        )
        self.answers.append(status.get("Status"))
        association.release()


def information(asked: Dataset, failed: dict[str, int]) -> tuple[Dataset, int]:
    told = Dataset()
    told.TransactionUID = asked.TransactionUID
    lost, kept = [], []
    for item in asked.ReferencedSOPSequence:
        if item.ReferencedSOPInstanceUID in failed:
            item.FailureReason = failed[item.ReferencedSOPInstanceUID]
            lost.append(item)
        else:
            kept.append(item)
    if kept:
        told.ReferencedSOPSequence = kept
    if lost:
        told.FailedSOPSequence = lost
    return told, 2 if lost else 1


@pytest.fixture
def pacs() -> Iterator[tuple[Pacs, int]]:
    played = Pacs()
    ae = AE("PACS")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.1.1")
    ae.add_supported_context(StorageCommitmentPushModel)
    handlers: Any = [(evt.EVT_C_STORE, played.store), (evt.EVT_N_ACTION, played.action)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    yield played, int(server.server_address[1])
    server.shutdown()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites(tmp_path) as make:
        yield make


def test_a_report_on_the_same_association_is_taken(make: MakeSite, pacs: tuple[Pacs, int]) -> None:
    import threading

    played, port = pacs
    answered = threading.Event()

    def later(event: evt.Event, asked: Dataset) -> None:
        told, kind = information(asked, {})
        status, _ = event.assoc.send_n_event_report(
            told, kind, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE
        )
        played.answers.append(status.get("Status"))
        answered.set()

    def on_action(_: Pacs, event: evt.Event, asked: Dataset) -> int:
        threading.Timer(0.3, later, (event, asked)).start()
        return 0x0000

    played.on_action = on_action
    site = make(port)
    site.work_until("committed", "committed")
    assert answered.wait(10)
    assert played.answers == [0x0000]


@pytest.mark.parametrize("stock", [False, True])
def test_partial_failure_sends_only_what_failed_again(
    make: MakeSite, pacs: tuple[Pacs, int], stock: bool
) -> None:
    played, port = pacs
    site = make(port, stock=stock)
    played.site = site
    bad = site.uids[1][1]
    site.work_until("sent", "sent")
    assert site.sender.work() == 2
    played.report(played.asked[0], {bad: 0x0213})
    assert site.states() == ["committed", "pending"]
    assert site.deliveries()[1].answer == "not committed: 0x0213 (resource limitation)"
    site.work_until("committed", "sent")
    wait_for("the second request", lambda: site.sender.work() + len(played.asked) >= 2)
    assert [item.ReferencedSOPInstanceUID for item in played.asked[1].ReferencedSOPSequence] == [
        bad
    ]
    played.report(played.asked[1])
    assert site.states() == ["committed", "committed"]
    assert played.answers == [0x0000, 0x0000]
    assert played.stored.count(bad) == 2
    assert played.stored.count(site.uids[0][1]) == 1


def test_a_late_report_still_counts_and_a_repeated_one_changes_nothing(
    make: MakeSite, pacs: tuple[Pacs, int]
) -> None:
    played, port = pacs
    site = make(port, commitment_timeout_seconds=0.3)
    assert offers_commitment(US, site.config.dicom_peers["pacs"]) is None
    played.site = site
    wait_for("the second request", lambda: site.sender.work() + 1 and len(played.asked) >= 2)
    first, second = played.asked[:2]
    assert first.TransactionUID != second.TransactionUID
    played.report(first)
    assert site.states() == ["committed", "committed"]
    played.report(first)
    played.report(second)
    assert played.answers == [0x0000] * 3
    assert len(site.events("report_committed")) == 2
    assert site.sender.work() == 0


def test_a_pacs_that_never_reports_is_asked_again_then_sent_to_again_then_failed(
    make: MakeSite, pacs: tuple[Pacs, int]
) -> None:
    played, port = pacs
    site = make(port, commitment_timeout_seconds=0.05)
    asker = site.sender._asker
    assert asker is not None
    # a report on the same association is not waited for here
    played.on_action = lambda _, event, __: _abort_soon(event)
    site.work_until("failed", "failed", deadline=60)
    assert len(played.asked) == 9
    assert len({asked.TransactionUID for asked in played.asked}) == 9
    assert [played.stored.count(uid) for _, uid in site.uids] == [3, 3]
    assert {row.answer for row in site.deliveries()} == {
        "not committed: asked 3 times, no report came"
    }
    assert len(site.events("report_failed")) == 2
    assert site.sender.work() == 0

    # the report comes after all: the peer has them
    played.site = site
    played.report(played.asked[0], {site.uids[0][1]: 0x0110})
    assert site.states() == ["failed", "committed"]
    played.report(played.asked[-1])
    assert site.states() == ["committed", "committed"]
    assert len(site.events("report_committed")) == 2


def _abort_soon(event: evt.Event) -> int:
    import threading

    threading.Timer(0.05, event.assoc.abort).start()
    return 0x0000


def test_a_refused_request_is_made_again(make: MakeSite, pacs: tuple[Pacs, int]) -> None:
    played, port = pacs
    played.on_action = lambda this, *_: 0x0110 if len(this.asked) == 1 else _abort_soon(_[0])
    site = make(port)
    wait_for("two requests", lambda: site.sender.work() + 1 and len(played.asked) >= 2)
    assert site.states() == ["sent", "sent"]
    (one, _) = site.events("commitment_ask_delayed")
    assert "0x0110" in one.data["why"]


def test_a_peer_that_is_away_is_asked_later(make: MakeSite) -> None:
    site = make(free_port())
    now = SystemClock().now()
    with site.database.write() as session:
        for row in session.query(Delivery):
            row.state, row.sent_at, row.ask_at = DeliveryState.SENT, now, now
    assert site.sender.work() == 2
    assert site.requests() == []
    assert len(site.events("commitment_ask_delayed")) == 2
    assert all(row.ask_at and row.ask_at > now and row.asked == 0 for row in site.deliveries())


def test_a_report_that_nobody_asked_for_is_refused_and_told(
    make: MakeSite, pacs: tuple[Pacs, int]
) -> None:
    played, port = pacs
    site = make(port)
    played.site = site
    stray = Dataset()
    stray.TransactionUID = "1.2.3.4"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = site.uids[0]
    stray.ReferencedSOPSequence = [item]
    played.report(stray)
    assert played.answers == [0x0115]
    assert site.states() == ["pending", "pending"]
    wait_for("the event", lambda: site.events("commitment_report_refused"))
