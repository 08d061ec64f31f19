"""Which job comes next: priority, then the senders' turns, then age; and what is left waiting."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from dicom_node.model.priority import Priority
from dicom_node.model.states import JobState, StudyState
from dicom_node.store import fitness, index, jobs, losses
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.tables import Job, Study
from tests.factories import ManualClock, facts
from tests.unit.store.test_queues import kinds

LEASE = timedelta(seconds=30)
WORKER = "worker-0@here"


def waits(
    database: Database,
    clock: ManualClock,
    study: str,
    *,
    sender: str = "CT1",
    priority: Priority = Priority.ROUTINE,
    pipeline: str = "kl",
) -> None:
    """A job on a study of its own; each a second younger than the one before."""
    clock.move(1)
    item = facts(study=study, series=f"{study}.1", sop=f"{study}.1.1")
    with database.write() as session:
        index.add_instance(session, index.Arrival(item, study, "a", clock.now()), clock.now())
        row = session.scalars(select(Study).where(Study.study_instance_uid == study)).one()
        row.state = StudyState.SETTLED
        new = NewJob(
            pipeline, "1", "w", [f"{study}.1.1"], ["pacs"], "", priority=priority, sender=sender
        )
        assert jobs.enqueue(session, row, new, clock.now()) is not None


def claimed(database: Database, clock: ManualClock, most: int = 1, workers: int = 1) -> list[str]:
    """The studies of the jobs that a worker gets."""
    with database.write() as session:
        batch = jobs.claim_batch(session, WORKER, clock.now(), LEASE, lambda _: most, workers)
        return [job.study.study_instance_uid for job in batch]


def test_a_stat_job_overtakes_those_that_wait(database: Database) -> None:
    clock = ManualClock()
    waits(database, clock, "1.1", priority=Priority.LOW)
    waits(database, clock, "1.2")
    waits(database, clock, "1.3")
    waits(database, clock, "1.4", priority=Priority.STAT)
    waits(database, clock, "1.5", priority=Priority.HIGH)
    order = [claimed(database, clock) for _ in range(6)]
    assert order == [["1.4"], ["1.5"], ["1.2"], ["1.3"], ["1.1"], []]


def test_a_sender_of_many_studies_starves_no_other(database: Database) -> None:
    clock = ManualClock()
    for number in range(5):
        waits(database, clock, f"1.{number}", sender="BULK")
    waits(database, clock, "2.1", sender="ER")
    waits(database, clock, "2.2", sender="ER")
    order = [claimed(database, clock)[0] for _ in range(7)]
    assert order == ["1.0", "2.1", "1.1", "2.2", "1.2", "1.3", "1.4"]


def test_a_stat_job_does_not_wait_for_its_sender_s_turn(database: Database) -> None:
    clock = ManualClock()
    waits(database, clock, "1.1", sender="BULK")
    waits(database, clock, "1.2", sender="ER")
    assert claimed(database, clock) == ["1.1"]
    waits(database, clock, "1.3", sender="BULK", priority=Priority.STAT)
    assert claimed(database, clock) == ["1.3"]


def test_a_batch_is_of_one_pipeline_and_one_priority(database: Database) -> None:
    clock = ManualClock()
    waits(database, clock, "1.1")
    waits(database, clock, "1.2", pipeline="hip")
    waits(database, clock, "1.3")
    waits(database, clock, "1.4", priority=Priority.LOW)
    assert claimed(database, clock, most=8) == ["1.1", "1.3"]
    assert claimed(database, clock, most=8) == ["1.2"]
    assert claimed(database, clock, most=8) == ["1.4"]


def test_a_batch_is_no_more_than_a_worker_s_share(database: Database) -> None:
    clock = ManualClock()
    for number in range(5):
        waits(database, clock, f"1.{number}")
    assert len(claimed(database, clock, most=8, workers=2)) == 3
    assert len(claimed(database, clock, most=1, workers=2)) == 1


def test_a_job_that_was_tried_before_runs_alone(database: Database) -> None:
    clock = ManualClock()
    waits(database, clock, "1.1")
    waits(database, clock, "1.2")
    assert claimed(database, clock, most=8) == ["1.1", "1.2"]
    with database.write() as session:
        assert jobs.held(session, WORKER) == 2
        lost = losses.requeue_lost(
            session, clock.now(), losses.LossPolicy(attempts=2), worker=WORKER
        )
    assert len(lost) == 2
    waits(database, clock, "1.3")
    assert claimed(database, clock, most=8) == ["1.1"]
    assert claimed(database, clock, most=8) == ["1.2"]
    assert claimed(database, clock, most=8) == ["1.3"]


def test_jobs_of_a_pipeline_that_failed_its_selftest_wait_until_it_passes(
    database: Database,
) -> None:
    clock = ManualClock()
    waits(database, clock, "1.1")
    waits(database, clock, "1.2", pipeline="hip")
    with database.write() as session:
        assert not fitness.record(session, "kl", "1", "w", ["grade is 4"], clock.now())
    with database.read() as session:
        assert fitness.unfit(session) == {"kl": "grade is 4"}
    assert claimed(database, clock) == ["1.2"]
    assert claimed(database, clock) == []
    with database.write() as session:
        assert fitness.record(session, "kl", "1", "w", [], clock.now())
        assert fitness.record(session, "kl", "1", "w", [], clock.now())
    assert claimed(database, clock) == ["1.1"]
    told = [kind for kind in kinds(database) if kind.startswith("pipeline_")]
    assert told == ["pipeline_disabled", "pipeline_enabled"]


def test_a_pipeline_that_has_no_golden_input_any_more_runs(database: Database) -> None:
    clock = ManualClock()
    waits(database, clock, "1.1")
    with database.write() as session:
        fitness.record(session, "kl", "1", "w", ["grade is 4"], clock.now())
        fitness.forget(session, "kl")
    assert claimed(database, clock) == ["1.1"]
    with database.read() as session:
        assert session.scalars(select(Job.state)).all() == [JobState.RUNNING]
