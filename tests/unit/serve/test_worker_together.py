"""Jobs that a worker takes together: each ends on its own, and none pays for another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.errors import PipelineError
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.model.states import JobState, StudyState
from dicom_node.serve.worker import Worker, WorkerSettings
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Study
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import all_jobs, put_into_inbox
from tests.unit.serve.worker_node import LEASE, Pipelines, grades


class Together(Pipelines):
    """Pipelines that take several jobs, and raise at the one that is to fail."""

    def __init__(self, failing: int | None = None) -> None:
        super().__init__(grades)
        self.failing = failing
        self.batches: list[int] = []

    def run_many(self, name: str, batch: Sequence[JobInput]) -> Iterator[Outcome]:
        self.batches.append(len(batch))
        for number, job in enumerate(batch):
            if number == self.failing:
                raise PipelineError("pipeline tiny", "it raised", "correct it")
            yield grades(job)


@pytest.fixture
def waiting(database: Database, spool: Spool, clock: ManualClock) -> list[str]:
    """Three studies of one image, each with a job."""
    images = [radiograph(study=f"1.2.{n}", Modality="DX") for n in (1, 2, 3)]
    for image in images:
        put_into_inbox(spool, image)
    Indexer(database, spool, clock).index_waiting()
    with database.write() as session:
        for image in images:
            uid = str(image.StudyInstanceUID)
            study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
            study.state = StudyState.SETTLED
            new = NewJob("tiny", "1", "w", [str(image.SOPInstanceUID)], ["pacs"], "route knees")
            assert jobs.enqueue(session, study, new, clock.now()) is not None
    return [str(image.StudyInstanceUID) for image in images]


def worker(
    database: Database, spool: Spool, clock: ManualClock, folder: Path, executor: Pipelines
) -> Worker:
    return Worker(
        WorkerSettings("worker-0@here", LEASE, 2, timedelta(seconds=5), batch=8),
        database=database,
        executor=executor,  # type: ignore[arg-type]
        spool_dir=spool.root,
        reports_dir=folder / "reports",
        clock=clock,
    )


@pytest.mark.parametrize(("failing", "alone"), [(None, 0), (1, 2)])
def test_jobs_taken_together_all_end_and_those_behind_a_failure_run_alone(
    database: Database,
    spool: Spool,
    clock: ManualClock,
    tmp_path: Path,
    waiting: list[str],
    failing: int | None,
    alone: int,
) -> None:
    executor = Together(failing)
    assert worker(database, spool, clock, tmp_path, executor).run_one()
    assert executor.batches == [len(waiting)]
    assert len(executor.ran) == alone
    found = all_jobs(database)
    assert [(job.state, job.attempts) for job in found] == [(JobState.DONE, 1)] * 3


def test_jobs_that_ran_together_when_their_worker_crashed_are_not_blamed(
    database: Database, spool: Spool, clock: ManualClock, tmp_path: Path, waiting: list[str]
) -> None:
    with database.write() as session:
        batch = jobs.claim_batch(session, "worker-0@here", clock.now(), LEASE, lambda _: 8)
        assert len(batch) == len(waiting)
    executor = Together()
    mine = worker(database, spool, clock, tmp_path, executor)
    mine.take_back(-11)
    with database.read() as session:
        assert session.scalars(select(Study.lost_workers)).all() == [0, 0, 0]
    while mine.run_one():
        pass
    assert executor.batches == []
    assert len(executor.ran) == len(waiting)
