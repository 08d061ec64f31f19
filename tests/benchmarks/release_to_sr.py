"""From the release of the last image's association to the structured report in the PACS.

    python -m tests.benchmarks.release_to_sr [--only knee ct] [--studies 20] [--pacs storescp]
        [--database postgres] [--burst]

A node as `dicom-node serve` runs it gets one study after another (with --burst: all at once), and
sends its reports to Orthanc or DCMTK's storescp. The moments are those that the node itself keeps:
of the study, its job and its delivery in the database; the job's own stages in its record. The
quiet time after which a study settles is taken off.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from sqlalchemy import select

from dicom_node.demo.ports import free_port
from dicom_node.inference.spans import STAGES
from dicom_node.requestor import keep_answers
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent, Delivery, Job, Report, Study
from tests.benchmarks.pipelines import STUDIES
from tests.peers.dcmtk import running_storescp
from tests.peers.node import Node, running_node, running_pacs
from tests.peers.postgres import running_postgres

MAKER = Path(__file__).with_name("pipelines.py")
QUIET: float = 4
_BEFORE = ("index", "settle", "route", "queue")
ORDER = (*_BEFORE, *STAGES, "job's rest", "outbox", "association", "C-STORE")
"""Stages in the order of the way; "settle" is what goes beyond the quiet time."""


@dataclass(frozen=True)
class Passage:
    """How long a study took from its release to its SR in the PACS: seconds by stage."""

    stages: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.stages.values())


def fresh(base: Sequence[Dataset]) -> str:
    """Give the images of a study other UIDs; returns the study's."""
    study, series = generate_uid(), generate_uid()
    for image in base:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return str(study)


def send(node: Node, images: Sequence[Dataset]) -> datetime:
    """Send images over one association; returns when it was released."""
    ae = AE("STORESCU")
    ae.dimse_timeout = ae.network_timeout = 300
    ae.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", node.port, ae_title="AINODE")
    assert association.is_established
    keep_answers(association)
    for image in images:
        status = association.send_c_store(image)
        assert status.get("Status") == 0, status.get("Status", "no answer")
    association.release()
    return datetime.now(UTC)


def passage(database: Database, study_uid: str, released: datetime) -> Passage:
    """Read what the node keeps of a study that has ended."""
    query = (
        select(
            Study.last_instance_at,
            Study.settled_at,
            Job.id,
            Job.queued_at,
            Job.started_at,
            Job.finished_at,
            Job.run_record,
            Delivery.queued_at,
            Delivery.sent_at,
            Report.sop_instance_uid,
        )
        .join(Job, Job.study_id == Study.id)
        .join(Report, Report.job_id == Job.id)
        .join(Delivery, Delivery.report_id == Report.id)
        .where(Study.study_instance_uid == study_uid, Report.kind == "SR")
    )
    with database.read() as session:
        row = session.execute(query).one()
        indexed, settled, _, queued, started, finished, record, waits, sent, uid = row
        events = session.scalars(
            select(AuditEvent.data).where(
                AuditEvent.kind == "report_sent", AuditEvent.study_uid == study_uid
            )
        )
        answer = next(data for data in events if data["sop_instance_uid"] == uid)
    ran = {name: float(record["seconds"].get(name, 0)) for name in STAGES}
    way = dict(
        index=_seconds(released, indexed),
        settle=_seconds(indexed, settled) - QUIET,
        route=_seconds(settled, queued),
        queue=_seconds(queued, started),
        **ran,
    )
    way["job's rest"] = _seconds(started, finished) - sum(ran.values())
    sending = float(answer.get("seconds", 0))
    way["C-STORE"] = float(answer.get("peer_seconds", 0))
    way["association"] = sending - way["C-STORE"]
    way["outbox"] = _seconds(waits, sent) - sending
    return Passage(way)


def _seconds(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()


def measure(node: Node, base: Sequence[Dataset], studies: int, *, burst: bool) -> list[Passage]:
    """Send studies, one when the last has ended or all at once; the first warms up."""
    released: dict[str, datetime] = {}
    for _ in range(studies + 1):
        uid = fresh(base)
        released[uid] = send(node, base)
        if not burst or len(released) == 1:
            node.wait_for_studies([uid], 600)
    node.wait_for_studies(released, 600 + 60 * studies)
    return [passage(node.database, *one) for one in list(released.items())[1:]]


def table(name: str, found: Sequence[Passage]) -> Iterator[str]:
    """Lines with the total, and each stage's share of the mean total."""
    totals = [one.total for one in found]
    mean = sum(totals) / len(totals)
    yield f"**{name}**: {len(found)} studies, p50 {np.percentile(totals, 50):.2f} s, " + (
        f"p95 {np.percentile(totals, 95):.2f} s"
    )
    yield "| stage | p50 s | p95 s | share |"
    yield "|---|---|---|---|"
    for stage in ORDER:
        took = [one.stages[stage] for one in found]
        p50, p95 = np.percentile(took, 50), np.percentile(took, 95)
        yield f"| {stage} | {p50:.3f} | {p95:.3f} | {sum(took) / len(took) / mean:.0%} |"


@contextlib.contextmanager
def pacs_of(kind: str, folder: Path) -> Iterator[int]:
    """A PACS; yields its port."""
    if kind == "orthanc":
        with running_pacs(folder) as orthanc:
            yield orthanc.dicom_port
        return
    port = free_port()
    with running_storescp(folder, port, "--fork"):
        yield port


@contextlib.contextmanager
def database_of(kind: str) -> Iterator[str | None]:
    """The URL of the node's database; None: SQLite."""
    if kind == "sqlite":
        yield None
        return
    with running_postgres() as server:
        yield server.url()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("knee", "hip", "ct300"), nargs="*")
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--pacs", choices=("orthanc", "storescp"), default="orthanc")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--burst", action="store_true", help="all studies at once")
    options = parser.parse_args()
    for name in options.only or ["knee", "ct300"]:
        with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
            folder = Path(place)
            images = folder / "images"
            images.mkdir()
            subprocess.run(
                [sys.executable, str(MAKER), "--only", name, "--make", str(images)],
                check=True,
            )
            base = [dcmread(file) for file in sorted(images.glob("*.dcm"))]
            port = stack.enter_context(pacs_of(options.pacs, folder / "pacs"))
            node = stack.enter_context(
                running_node(
                    folder / "node",
                    port,
                    quiet_seconds=QUIET,
                    database_url=stack.enter_context(database_of(options.database)),
                    inference={"device": "cpu", "selftest": False},
                )
            )
            found = measure(node, base, options.studies, burst=options.burst)
        load = os.getloadavg()[0]
        print(f"\n{options.pacs}, {options.database}, load {load:.1f}")
        print("\n".join(table(STUDIES[name][1], found)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
