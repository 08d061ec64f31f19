"""A study in the spool, a job on it, and workers whose pipeline is a function of the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset
from sqlalchemy import select

from dicom_node.inference.files import read_header
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.model.findings import ImageReference, NotEvaluated
from dicom_node.model.own_codes import WRONG_VIEW
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.states import StudyState
from dicom_node.serve.worker import Worker, WorkerSettings
from dicom_node.store import jobs, outbox
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Report, Study
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock
from tests.unit.results import samples
from tests.unit.serve.small_node import put_into_inbox

LEASE = timedelta(seconds=30)


class Pipelines:
    """An executor whose pipeline is a function of the job."""

    def __init__(self, run: Callable[[JobInput], Outcome]) -> None:
        self._run = run
        self.ran: list[JobInput] = []

    def spec(self, name: str) -> PipelineSpec:
        return samples.SPEC

    def run(self, name: str, job: JobInput) -> Outcome:
        self.ran.append(job)
        return self._run(job)


def grades(job: JobInput) -> Outcome:
    """Find a knee in the first image, as a pipeline does."""
    header = read_header(job.files[0])
    subject = samples.one_knee(header)
    found = samples.findings(header, [samples.kl(subject)])
    picture = {subject.images[0].key: np.full((64, 48), 90, np.uint8)}
    return Outcome(replace(found, started=job.started), picture, {"device": "cpu"})


def declines(job: JobInput) -> Outcome:
    """Say that nothing could be evaluated, with routing's reason if there is one."""
    facts = job.facts[0]
    image = ImageReference(facts.sop_class_uid, facts.sop_instance_uid, facts.series_instance_uid)
    subject = replace(samples.one_knee(read_header(job.files[0])), images=(image,))
    reason = job.rejection.reason if job.rejection else WRONG_VIEW
    text = job.rejection.text if job.rejection else "the image is not an AP view of the knee"
    found = samples.findings(read_header(job.files[0]), [NotEvaluated(subject, reason, text)])
    picture = {image.key: np.full((64, 48), 90, np.uint8)}
    return Outcome(replace(found, started=job.started, statement=text), picture)


def raises(error: Exception) -> Callable[[JobInput], Outcome]:
    def run(_: JobInput) -> Outcome:
        raise error

    return run


class Node:
    """A study in the spool, a job on it, and workers to run it."""

    def __init__(self, folder: Path, database: Database, spool: Spool, clock: ManualClock) -> None:
        self.reports = folder / "data" / "reports"
        self.database, self.spool, self.clock = database, spool, clock

    def receive(self, *images: FileDataset) -> None:
        for image in images:
            put_into_inbox(self.spool, image)
        Indexer(self.database, self.spool, self.clock).index_waiting()

    def queue(self, *inputs: str, **changes: Any) -> None:
        with self.database.write() as session:
            study = session.scalars(select(Study)).one()
            if study.state == StudyState.RECEIVING:
                study.state = StudyState.SETTLED
            facts = {"version": "1", "weights_sha256": "w", "peers": ["pacs"], **changes}
            new = NewJob("tiny", inputs=list(inputs), reason="route knees", **facts)
            assert jobs.enqueue(session, study, new, self.clock.now()) is not None

    def worker(
        self, run: Callable[[JobInput], Outcome], *, attempts: int = 2, lease: timedelta = LEASE
    ) -> Worker:
        self.executor = Pipelines(run)
        return Worker(
            WorkerSettings("worker-0@here", lease, attempts, timedelta(seconds=5)),
            database=self.database,
            executor=self.executor,
            spool_dir=self.spool.root,
            reports_dir=self.reports,
            clock=self.clock,
        )

    def reports_made(self) -> dict[str, tuple[str, bytes]]:
        """Kind and bytes of each report by SOP Instance UID."""
        with self.database.read() as session:
            rows = session.scalars(select(Report))
            return {
                r.sop_instance_uid: (r.kind, (self.reports / r.path).read_bytes()) for r in rows
            }

    def all_sent(self) -> None:
        """Every peer has what is in the outbox."""
        with self.database.write() as session:
            for delivery in outbox.due(session, "pacs", self.clock.now()):
                outbox.mark_sent(session, delivery.id, "status 0x0000", self.clock.now())

    def due(self) -> int:
        with self.database.read() as session:
            return len(outbox.due(session, "pacs", self.clock.now()))
