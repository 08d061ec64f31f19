"""How long a report takes to its peer, beside two well peers and beside a dead and a slow one.

    python tests/benchmarks/delivery.py [--reports 60] [--rounds 3]

Every report (two objects) goes to three peers. In one phase all three are DCMTK's `storescp`; in
the other the first accepts connections and never answers, and the second takes a second for each
object. The phases take turns. The latency is from the outbox row to the record of the third
peer's answer, through the node's own outbox and SQLite.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import socket
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parents[2]))
from dicom_node.clock import SystemClock
from dicom_node.delivery import Outbox, PeerSender, RetryStrategy, ScuSettings, destination_for
from dicom_node.demo.ports import free_port
from dicom_node.model.peers import Peer
from dicom_node.model.states import JobState, StudyState
from dicom_node.store import index, jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.tables import Delivery, Study
from tests.factories import facts, radiograph
from tests.peers.dcmtk import running_storescp
from tests.peers.ports import wait_for

PEERS = ("first", "second", "third")
_CLOCK = SystemClock()
_QUIET = threading.Event()
"""Never set: its `wait` is a pause."""


@dataclass(frozen=True)
class Phase:
    """What one phase has measured.

    Attributes:
        latencies: Seconds from the outbox to the third peer's recorded answer, of each object.
        left: Objects that each of the other two had not taken when the third had all.
    """

    latencies: list[float]
    left: dict[str, int]

    @property
    def median(self) -> float:
        return statistics.median(self.latencies)

    @property
    def longest(self) -> float:
        return max(self.latencies)


@contextmanager
def dead_peer() -> Iterator[int]:
    """A port that takes connections and never answers: worse than one that refuses them."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield int(listening.getsockname()[1])


def measure(folder: Path, reports: int, *, sick: bool, pause: float = 0.1) -> Phase:
    """Send reports to three peers and take the third one's latencies."""
    with ExitStack() as stack:
        ports = {
            name: _storescp(stack, folder, name, *(["--sleep-during", "1"] if slow else []))
            for name, slow in zip(PEERS, (False, sick, False), strict=True)
        }
        if sick:
            ports["first"] = stack.enter_context(dead_peer())
        database = Database(f"sqlite:///{folder / 'node.sqlite3'}")
        stack.callback(database.close)
        database.migrate()
        outbox = Outbox(
            [_sender(name, port, database, folder) for name, port in ports.items()],
            timedelta(seconds=0.5),
        )
        outbox.start()
        stack.callback(outbox.stop)
        for number in range(reports):
            _queue(database, folder, number)
            _QUIET.wait(pause)
        wait_for(
            "the third peer's objects",
            lambda: len(_sent(database, "third")) == 2 * reports,
            60 + reports,
        )
        assert outbox.alive
        return Phase(
            _sent(database, "third"),
            {name: 2 * reports - len(_sent(database, name)) for name in PEERS[:2]},
        )


def _storescp(stack: ExitStack, folder: Path, name: str, *options: str) -> int:
    port = free_port()
    stack.enter_context(running_storescp(folder / name, port, *options))
    return port


def _sender(name: str, port: int, database: Database, folder: Path) -> PeerSender:
    # the time-outs are shorter than a node's, so that the dead peer is tried often
    settings = ScuSettings("AINODE", connect_timeout=2, acse_timeout=2, dimse_timeout=5)
    peer = Peer(ae_title="PACS", host="127.0.0.1", port=port)
    return PeerSender(
        name,
        destination_for(settings, peer),
        database=database,
        reports_dir=folder,
        retry=RetryStrategy(timedelta(seconds=0.5), timedelta(seconds=2), timedelta(hours=1)),
        clock=_CLOCK,
    )


def _queue(database: Database, folder: Path, number: int) -> None:
    """A finished job with a report of two objects for each peer."""
    reports = []
    for kind in ("SR", "SC"):
        dataset = radiograph()
        file = f"{number}-{kind}.dcm"
        dataset.save_as(folder / file, enforce_file_format=True)
        uid = str(dataset.SOPInstanceUID)
        reports.append(NewReport(kind, str(dataset.SOPClassUID), uid, file, "h"))
    now = _CLOCK.now()
    study_uid, uid = f"1.2.3.{number}", f"1.2.3.{number}.1"
    with database.write() as session:
        arrival = index.Arrival(facts(study=study_uid, sop=uid), f"{number}", "a", now)
        index.add_instance(session, arrival, now)
        study = session.query(Study).filter_by(study_instance_uid=study_uid).one()
        study.state = StudyState.SETTLED
        jobs.enqueue(session, study, NewJob("kl", "1", "w", [uid], list(PEERS), "r"), now)
        job = jobs.claim(session, "w0", now, timedelta(seconds=9))
        assert job is not None
        jobs.finish(session, job.id, "w0", JobResult(JobState.DONE, reports, []), now)


def _sent(database: Database, peer: str) -> list[float]:
    with database.read() as session:
        rows = session.query(Delivery).filter_by(peer=peer, state="sent").all()
    return [(row.sent_at - row.queued_at).total_seconds() for row in rows if row.sent_at]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--reports", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print("| round | the other two | median s | longest s | not taken by first, second |")
    print("|---|---|---|---|---|")
    medians: dict[bool, list[float]] = {False: [], True: []}
    for number in range(1, options.rounds + 1):
        for sick in (False, True):
            folder = Path(tempfile.mkdtemp())
            try:
                phase = measure(folder, options.reports, sick=sick)
            finally:
                shutil.rmtree(folder)
            medians[sick].append(phase.median)
            others = "dead, slow" if sick else "well"
            left = ", ".join(map(str, phase.left.values()))
            print(f"| {number} | {others} | {phase.median:.3f} | {phase.longest:.3f} | {left} |")
    ratio = statistics.median(medians[True]) / statistics.median(medians[False])
    print(f"ratio of the medians: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
