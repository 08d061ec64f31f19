"""Jobs whose process elsewhere was lost, while the worker that claimed them was not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.serve.failures import LostError
from dicom_node.store.database import Database
from dicom_node.store.losses import Loss
from dicom_node.store.tables import Job, Suspect
from tests.factories import ManualClock
from tests.unit.serve.small_node import all_jobs, events
from tests.unit.serve.worker_node import Node, grades

OUTSIDE = Loss(
    "ray_away", "the cluster does not answer", blamed=False, counts=False, fix="start it"
)
NODE = Loss("lost", "4 Ray nodes were lost", blamed=False)
CRASH = Loss("crashed", "it crashed its actor", blamed=True)


def loses(loss: Loss) -> Callable[[JobInput], Outcome]:
    def run(_: JobInput) -> Outcome:
        raise LostError("pipeline tiny", loss)

    return run


def test_what_the_job_cannot_have_done_is_no_attempt_however_often(
    node: Node, database: Database, clock: ManualClock
) -> None:
    worker = node.worker(loses(OUTSIDE))
    for _ in range(5):
        assert worker.run_one()
        # not at once again: what is away needs its time
        assert not worker.run_one()
        clock.move(60)
    (job,) = all_jobs(database)
    assert (job.state, job.attempts, job.worker) == ("queued", 0, None)
    assert job.error is not None
    assert (job.error["reason"], job.error["fix"]) == ("ray_away", "start it")
    assert len(events(database, "job_requeued")) == 5
    assert node.worker(grades).run_one()
    assert all_jobs(database)[0].state == "done"


@pytest.mark.parametrize(("loss", "tries", "suspects"), [(NODE, 3, []), (CRASH, 2, ["tiny"])])
def test_other_losses_are_attempts_and_only_the_job_s_own_doing_is_held_against_its_pipeline(
    node: Node, database: Database, clock: ManualClock, loss: Loss, tries: int, suspects: list[str]
) -> None:
    worker = node.worker(loses(loss))
    ran = 0
    while worker.run_one():
        ran += 1
        clock.move(60)
    (job,) = all_jobs(database)
    assert (ran, job.state) == (tries, "failed")
    with database.read() as session:
        assert list(session.scalars(select(Suspect.pipeline))) == suspects


def test_jobs_in_hand_are_not_taken_back(node: Node, database: Database) -> None:
    worker = node.worker(grades)
    (claimed,) = worker.claim()
    worker.take_back(lost=OUTSIDE, besides=[claimed.job.id])
    assert all_jobs(database)[0].state == "running"
    worker.take_back(lost=OUTSIDE)
    (job,) = all_jobs(database)
    assert (job.state, job.attempts) == ("queued", 0)


def test_a_pipeline_that_is_left_to_others_is_not_claimed(node: Node, database: Database) -> None:
    worker = node.worker(grades)
    assert worker.claim(leave={"tiny", "other"}) == []
    assert len(worker.claim(leave={"other"})) == 1


def test_a_claim_that_was_lost_meanwhile_is_left_alone(
    node: Node, database: Database, clock: ManualClock
) -> None:
    def run(_: JobInput) -> Outcome:
        with database.write() as session:
            session.get_one(Job, 1).worker = "worker-7@elsewhere"
        raise LostError("pipeline tiny", CRASH)

    assert node.worker(run, lease=timedelta(seconds=30)).run_one()
    (job,) = all_jobs(database)
    assert (job.state, job.worker) == ("running", "worker-7@elsewhere")
