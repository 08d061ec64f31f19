"""A site whose reports go to a peer that is asked to commit to them, stepped by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig
from dicom_node.delivery import (
    CommitmentAsker,
    CStore,
    PeerSender,
    RetryStrategy,
    ask,
)
from dicom_node.demo.ports import free_port
from dicom_node.model.states import JobState, StudyState
from dicom_node.receive import Receiver
from dicom_node.serve.commitment import CommitmentBook
from dicom_node.serve.events import AuditSink
from dicom_node.serve.receiving import receiver_settings
from dicom_node.store import index, jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.spool import Spool
from dicom_node.store.tables import AskedCommitment, AuditEvent, Delivery, Study
from tests.factories import facts, radiograph
from tests.peers.calling import US
from tests.peers.ports import wait_for

RETRY = RetryStrategy(
    timedelta(seconds=0.1), timedelta(seconds=0.2), timedelta(hours=1), jitter=lambda: 0.0
)


class Site:
    """A receiver and the outbox's sender of one peer, stepped by the test."""

    def __init__(self, folder: Path, peer_port: int, *, stock: bool = False, **peer: Any) -> None:
        self.folder = folder
        self.config = NodeConfig.model_validate(
            {
                "node": {
                    "ae_title": "AINODE",
                    "host": "127.0.0.1",
                    "port": free_port(),
                    "data_dir": folder,
                    "min_free_mb": 1,
                },
                "peers": {
                    "pacs": {
                        "ae_title": "PACS",
                        "host": "127.0.0.1",
                        "port": peer_port,
                        "storage_commitment": True,
                        **peer,
                    }
                },
                "accept_from": ["pacs"],
            }
        )
        self.database = Database(self.config.database_url)
        self.database.migrate()
        self.receiver = Receiver(
            replace(receiver_settings(self.config), stock=stock),
            Spool(self.config.spool_dir),
            AuditSink(self.database),
            SystemClock(),
            CommitmentBook(self.database, SystemClock(), timedelta(seconds=0.1)),
        )
        self.receiver.start()
        self.uids = [self._report(number) for number in (1, 2)]
        self._finish()
        self.sender = self._sender()

    def _report(self, number: int) -> tuple[str, str]:
        dataset = radiograph()
        self.config.reports_dir.mkdir(exist_ok=True)
        dataset.save_as(self.config.reports_dir / f"{number}.dcm", enforce_file_format=True)
        return str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)

    def _finish(self) -> None:
        now = SystemClock().now()
        with self.database.write() as session:
            index.add_instance(session, index.Arrival(facts(), "x", "a", now), now)
            study = session.get_one(Study, 1)
            study.state = StudyState.SETTLED
            jobs.enqueue(session, study, NewJob("kl", "1", "w", ["1.2.3.1.1"], ["pacs"], "r"), now)
            jobs.claim(session, "w0", now, timedelta(seconds=9))
            reports = [
                NewReport("SC", sop_class, uid, f"{number}.dcm", "h")
                for number, (sop_class, uid) in enumerate(self.uids, 1)
            ]
            jobs.finish(session, 1, "w0", JobResult(JobState.DONE, reports, []), now)

    def _sender(self) -> PeerSender:
        peer = self.config.dicom_peers["pacs"]
        clock = SystemClock()
        asker = CommitmentAsker(
            "pacs",
            peer,
            database=self.database,
            retry=RETRY,
            clock=clock,
            ask=partial(ask, US, peer),
        )
        return PeerSender(
            "pacs",
            CStore(US, peer),
            database=self.database,
            reports_dir=self.config.reports_dir,
            retry=RETRY,
            clock=clock,
            asker=asker,
        )

    def deliveries(self) -> list[Delivery]:
        with self.database.read() as session:
            return session.query(Delivery).order_by(Delivery.id).all()

    def states(self) -> list[str]:
        return [delivery.state for delivery in self.deliveries()]

    def requests(self) -> list[AskedCommitment]:
        with self.database.read() as session:
            return session.query(AskedCommitment).order_by(AskedCommitment.id).all()

    def events(self, kind: str) -> list[AuditEvent]:
        with self.database.read() as session:
            return session.query(AuditEvent).filter_by(kind=kind).all()

    def work_until(self, *states: str, deadline: float = 30) -> None:
        def there() -> bool:
            self.sender.work()
            return self.states() == list(states)

        try:
            wait_for(f"the states {states}", there, deadline)
        except AssertionError as error:
            said = [(row.state, row.asked, row.resent, row.answer) for row in self.deliveries()]
            raise AssertionError(f"{error}: {said}") from error

    def close(self) -> None:
        self.receiver.stop()
        self.database.close()


@contextmanager
def sites(folder: Path) -> Iterator[MakeSite]:
    """Make sites on ports, each in a folder of its own; closed at the end."""
    with ExitStack() as closing:

        def make(port: int, **peer: Any) -> Site:
            site = Site(folder / f"site-{port}", port, **peer)
            closing.callback(site.close)
            return site

        yield make


MakeSite = Callable[..., Site]
