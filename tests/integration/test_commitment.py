"""Storage commitment: only what was read again from disk, byte for byte, is said to be kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig
from dicom_node.delivery import RetryStrategy
from dicom_node.demo.ports import free_port
from dicom_node.model.commitment import WELL_KNOWN_INSTANCE
from dicom_node.receive import Receiver
from dicom_node.serve.commitment import CommitmentBook, CommitmentDesk
from dicom_node.serve.events import AuditSink
from dicom_node.serve.receiving import receiver_settings
from dicom_node.store import commitments
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Commitment
from dicom_node.studies.indexing import Indexer
from tests.factories import radiograph
from tests.peers.ports import wait_for

TITLE = "XR"


@dataclass
class Told:
    """The reports that a peer got, and how many it refuses first."""

    reports: list[tuple[int, Dataset]] = field(default_factory=list)
    refuse: int = 0

    def take(self, event: Any) -> tuple[int, None]:
        if self.refuse:
            self.refuse -= 1
            return 0x0110, None
        self.reports.append((event.event_type, event.event_information))
        return 0x0000, None


class Site:
    """A receiver and the coordinator's commitment work, stepped by the test."""

    def __init__(self, folder: Path, peer_port: int, **receive: Any) -> None:
        self.config = NodeConfig.model_validate(
            {
                "node": {
                    "ae_title": "AINODE",
                    "host": "127.0.0.1",
                    "port": free_port(),
                    "data_dir": folder,
                    "min_free_mb": 1,
                },
                "peers": {"xr": {"ae_title": TITLE, "host": "127.0.0.1", "port": peer_port}},
                "accept_from": ["xr"],
                "receive": receive,
            }
        )
        self.database = Database(self.config.database_url)
        self.database.migrate()
        clock = SystemClock()
        self.spool = Spool(self.config.spool_dir)
        self.indexer = Indexer(self.database, self.spool, clock)
        self.desk = CommitmentDesk(
            self.config,
            self.database,
            self.indexer.index_waiting,
            RetryStrategy(timedelta(seconds=0.1), timedelta(seconds=0.1), timedelta(hours=1)),
            clock,
        )
        self.receiver: Receiver | None = None
        self.start()

    def start(self, *, stock: bool = False) -> None:
        settings = receiver_settings(self.config)
        if stock:
            import dataclasses

            settings = dataclasses.replace(settings, stock=True)
        self.receiver = Receiver(
            settings,
            self.spool,
            AuditSink(self.database),
            SystemClock(),
            CommitmentBook(self.database, SystemClock()),
        )
        self.receiver.start()

    def stop(self) -> None:
        if self.receiver is not None:
            self.receiver.stop()
        self.receiver = None

    def work(self) -> bool:
        """One turn of what the coordinator does."""
        self.desk.verify_commitments()
        self.desk.report_commitments()
        return True

    def row(self) -> Commitment:
        with self.database.read() as session:
            return session.query(Commitment).one()

    def file_of(self, image: Dataset) -> Path:
        with self.database.read() as session:
            reference = commitments.Reference("", str(image.SOPInstanceUID))
            (row,) = commitments.kept(session, [reference]).values()
            return self.config.spool_dir / row.path


@pytest.fixture
def peer() -> Iterator[tuple[int, Told]]:
    """A modality that takes reports on a port of its own."""
    told = Told()
    ae = AE(TITLE)
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, told.take)]
    )
    assert server is not None
    yield int(server.server_address[1]), told
    server.shutdown()


@pytest.fixture
def site(tmp_path: Path, peer: tuple[int, Told]) -> Iterator[Site]:
    running = Site(tmp_path, peer[0])
    yield running
    running.stop()
    running.database.close()


def request(*images: Dataset, transaction: str | None = None) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction or generate_uid()
    asked.ReferencedSOPSequence = []
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID = image.SOPClassUID
        item.ReferencedSOPInstanceUID = image.SOPInstanceUID
        asked.ReferencedSOPSequence.append(item)
    return asked


def associate(site: Site, told: Told | None = None, images: tuple[Dataset, ...] = ()) -> Any:
    ae = AE(TITLE)
    ae.add_requested_context(StorageCommitmentPushModel)
    for image in images[:1]:
        ae.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    handlers: Any = [(evt.EVT_N_EVENT_REPORT, told.take)] if told else []
    association = ae.associate(
        "127.0.0.1", site.config.node.port, ae_title="AINODE", evt_handlers=handlers
    )
    assert association.is_established
    return association


def ask(association: Any, asked: Dataset, action: int = 1) -> int:
    status, _ = association.send_n_action(
        asked, action, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE
    )
    return int(status.Status)


def send(site: Site, *images: FileDataset) -> None:
    association = associate(site, images=images)
    for image in images:
        assert association.send_c_store(image).Status == 0
    association.release()


def reported(site: Site, told: Told, number: int = 1) -> tuple[int, Dataset]:
    wait_for("the report", lambda: site.work() and len(told.reports) >= number)
    return told.reports[number - 1]


def test_the_report_comes_on_the_association_of_the_request_while_it_lasts(
    site: Site, peer: tuple[int, Told]
) -> None:
    images = radiograph(), radiograph()
    here = Told()
    association = associate(site, here, images)
    for image in images:
        assert association.send_c_store(image).Status == 0
    asked = request(*images)
    assert ask(association, asked) == 0
    kind, told = reported(site, here)
    assert kind == 1
    assert told.TransactionUID == asked.TransactionUID
    assert [i.ReferencedSOPInstanceUID for i in told.ReferencedSOPSequence] == [
        image.SOPInstanceUID for image in images
    ]
    assert "FailedSOPSequence" not in told
    wait_for("the answer to be noted", lambda: site.row().state == "reported")
    # the association goes on as before
    assert association.send_c_store(radiograph()).Status == 0
    association.release()
    site.work()
    assert peer[1].reports == []


@pytest.mark.parametrize("stock", [False, True])
def test_a_request_whose_association_has_ended_is_reported_by_another(
    site: Site, peer: tuple[int, Told], stock: bool
) -> None:
    site.stop()
    site.start(stock=stock)
    image = radiograph()
    send(site, image)
    association = associate(site)
    assert ask(association, request(image)) == 0
    association.release()
    kind, told = reported(site, peer[1])
    assert kind == 1
    assert told.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert site.row().state == "reported"


def test_what_is_not_safe_is_said_with_its_reason(site: Site, peer: tuple[int, Told]) -> None:
    good, damaged, gone, never, other = (radiograph() for _ in range(5))
    send(site, good, damaged, gone, other)
    site.indexer.index_waiting()
    file = site.file_of(damaged)
    data = bytearray(file.read_bytes())
    data[-10] ^= 1
    file.write_bytes(data)
    site.file_of(gone).unlink()
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    association = associate(site)
    assert ask(association, request(good, damaged, gone, never, other)) == 0
    association.release()
    kind, told = reported(site, peer[1])
    assert kind == 2
    assert [i.ReferencedSOPInstanceUID for i in told.ReferencedSOPSequence] == [good.SOPInstanceUID]
    assert {i.ReferencedSOPInstanceUID: i.FailureReason for i in told.FailedSOPSequence} == {
        damaged.SOPInstanceUID: 0x0110,
        gone.SOPInstanceUID: 0x0110,
        never.SOPInstanceUID: 0x0112,
        other.SOPInstanceUID: 0x0119,
    }


def test_a_request_survives_a_restart(site: Site, peer: tuple[int, Told], tmp_path: Path) -> None:
    image = radiograph()
    send(site, image)
    association = associate(site)
    assert ask(association, request(image)) == 0
    association.abort()
    site.stop()
    site.database.close()
    again = Site(tmp_path, peer[0])
    try:
        assert reported(again, peer[1])[0] == 1
    finally:
        again.stop()
        again.database.close()


def test_a_peer_that_does_not_take_the_report_is_told_again(
    site: Site, peer: tuple[int, Told]
) -> None:
    peer[1].refuse = 2
    image = radiograph()
    send(site, image)
    association = associate(site)
    assert ask(association, request(image)) == 0
    association.release()
    assert reported(site, peer[1])[0] == 1
    assert site.row().attempts == 3


def test_a_report_refused_on_its_association_comes_by_another(
    site: Site, peer: tuple[int, Told]
) -> None:
    image = radiograph()
    send(site, image)
    here = Told(refuse=1)
    association = associate(site, here)
    assert ask(association, request(image)) == 0
    assert reported(site, peer[1])[0] == 1
    assert here.reports == []
    association.release()


def test_the_same_request_again_is_looked_into_and_reported_again(
    site: Site, peer: tuple[int, Told]
) -> None:
    image = radiograph()
    asked = request(image)
    for number, kind in ((1, 2), (2, 1)):
        association = associate(site)
        assert ask(association, asked) == 0
        association.release()
        assert reported(site, peer[1], number)[0] == kind
        send(site, image)


@pytest.mark.parametrize(
    ("change", "action", "status"),
    [
        ({"TransactionUID": "1.2.x"}, 1, 0x0115),
        ({"ReferencedSOPSequence": []}, 1, 0x0115),
        ({}, 2, 0x0123),
    ],
)
def test_a_wrong_request_is_refused_with_its_status(
    site: Site, change: dict[str, Any], action: int, status: int
) -> None:
    asked = request(radiograph())
    for keyword, value in change.items():
        setattr(asked, keyword, value)
    association = associate(site)
    assert ask(association, asked, action) == status
    association.release()
    with site.database.read() as session:
        assert commitments.requested(session) == []


def test_a_transaction_uid_that_is_in_use_for_other_images_is_refused(site: Site) -> None:
    association = associate(site)
    transaction = generate_uid()
    assert ask(association, request(radiograph(), transaction=transaction)) == 0
    assert ask(association, request(radiograph(), transaction=transaction)) == 0x0110
    association.release()


def test_a_caller_without_an_address_is_given_up_with_the_reason(
    site: Site, tmp_path: Path
) -> None:
    book = CommitmentBook(site.database, SystemClock())
    reference = commitments.Reference("1.2", "1.2.3")
    stranger = commitments.CommitmentRequest("1.2.9", "STRANGER", "AINODE", (reference,))
    assert book.take(stranger)
    book.let_go("STRANGER", "1.2.9")
    site.work()
    assert site.row().state == "failed"
    assert "add it to `peers`" in (site.row().answer or "")


def test_two_requests_at_once_are_both_reported(site: Site, peer: tuple[int, Told]) -> None:
    images = [radiograph() for _ in range(2)]
    send(site, *images)
    here = [Told(), Told()]

    def ask_and_wait(number: int) -> None:
        association = associate(site, here[number])
        assert ask(association, request(images[number])) == 0
        wait_for("its report", lambda: here[number].reports)
        association.release()

    threads = [threading.Thread(target=ask_and_wait, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    wait_for("both", lambda: site.work() and all(told.reports for told in here))
    for thread in threads:
        thread.join()
