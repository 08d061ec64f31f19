"""The index, the queue of jobs and the outbox: states change only as the tables allow."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.errors import TransitionError
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store import audit, index, jobs, losses, outbox
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.tables import AuditEvent, Base, Delivery, Instance, Job, Report, Study
from tests.factories import ManualClock, facts

QUIET = timedelta(seconds=60)
LEASE = timedelta(seconds=30)
POLICY = losses.LossPolicy(attempts=2)


def arrive(database: Database, clock: ManualClock, **of: str) -> index.Indexed:
    sha = of.pop("sha256", "a")
    item = facts(**of)
    with database.write() as session:
        return index.add_instance(
            session,
            index.Arrival(item, f"x/{item.sop_instance_uid}", sha, clock.now()),
            clock.now(),
        )


def settle(database: Database, clock: ManualClock) -> list[str]:
    with database.write() as session:
        return index.settle_quiet(session, clock.now(), QUIET)


def queued(database: Database, clock: ManualClock, **changes: object) -> int | None:
    new = NewJob(
        **{
            "pipeline": "kl",
            "version": "1",
            "weights_sha256": "w",
            "inputs": ["1.2.3.1.1"],
            "peers": ["pacs"],
            "reason": "route knees",
            **changes,
        }
    )
    with database.write() as session:
        study = session.scalars(select(Study)).one()
        if study.state == StudyState.RECEIVING:
            study.state = StudyState.SETTLED
        job = jobs.enqueue(session, study, new, clock.now())
        return job.id if job else None


def kinds(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(AuditEvent.kind).order_by(AuditEvent.id)))


RESULT = JobResult(
    JobState.DONE,
    [NewReport("SR", "1.2.840.10008.5.1.4.1.1.88.33", "2.25.1", "s/2.25.1.dcm", "h")],
    [("statement", {"text": "KL 2"})],
)


def test_the_migration_makes_the_tables_of_the_code(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    assert database.revision()[0] == database.revision()[1]
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_study_settles_after_the_quiet_time_and_a_late_image_reopens_it(
    database: Database,
) -> None:
    clock = ManualClock()
    assert arrive(database, clock) is index.Indexed.NEW
    clock.move(59)
    assert settle(database, clock) == []
    clock.move(1)
    assert settle(database, clock) == ["1.2.3"]
    arrive(database, clock, sop="1.2.3.1.2")
    with database.read() as session:
        study = session.scalars(select(Study)).one()
        assert (study.state, study.revision) == (StudyState.RECEIVING, 1)
    clock.move(60)
    assert settle(database, clock) == ["1.2.3"]
    assert kinds(database) == ["study_begun", "study_settled", "study_reopened", "study_settled"]


def test_the_same_image_twice_changes_nothing(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    clock.move(60)
    settle(database, clock)
    assert arrive(database, clock) is index.Indexed.DUPLICATE
    with database.read() as session:
        assert session.scalars(select(Study)).one().state == StudyState.SETTLED


def test_other_content_under_the_same_uid_is_flagged_and_the_first_stays(
    database: Database,
) -> None:
    clock = ManualClock()
    arrive(database, clock)
    assert arrive(database, clock, sha256="b") is index.Indexed.CONFLICT
    with database.read() as session:
        assert session.scalars(select(Instance.sha256)).all() == ["a"]
    assert "instance_conflict" in kinds(database)


def test_a_state_cannot_jump(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    job_id = queued(database, clock)
    with database.write() as session, pytest.raises(TransitionError, match="may not become done"):
        session.get_one(Job, job_id).state = JobState.DONE


def test_a_job_is_queued_once_for_the_same_images(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    assert queued(database, clock) is not None
    assert queued(database, clock) is None
    assert queued(database, clock, pipeline="other") is not None
    with database.write() as session:
        assert jobs.claim(session, "w0", clock.now(), LEASE) is not None
    assert queued(database, clock) is None
    assert queued(database, clock, weights_sha256="other") is not None


def test_a_claimed_job_is_nobody_elses_until_its_lease_runs_out(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    job_id = queued(database, clock)
    with database.write() as session:
        job = jobs.claim(session, "worker-0", clock.now(), LEASE)
        assert job is not None
        assert job.id == job_id
    with database.write() as session:
        assert jobs.claim(session, "worker-1", clock.now(), LEASE) is None
        assert losses.requeue_lost(session, clock.now(), POLICY) == []
    clock.move(31)
    with database.write() as session:
        assert losses.requeue_lost(session, clock.now(), POLICY) == [job_id]
    with database.write() as session:
        assert not jobs.finish(session, job_id, "worker-0", RESULT, clock.now())
        assert jobs.claim(session, "worker-1", clock.now(), LEASE) is not None


def test_a_job_that_kills_its_workers_is_failed_not_tried_for_ever(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    job_id = queued(database, clock)
    for _ in range(3):
        with database.write() as session:
            assert jobs.claim(session, "worker-0", clock.now(), LEASE)
        with database.write() as session:
            losses.requeue_lost(session, clock.now(), POLICY, worker="worker-0")
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert job.state == JobState.FAILED
        assert job.error["why"] == "its worker died while running it (in each of 3 tries)"


def test_a_finished_job_puts_each_object_once_into_the_outbox(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    job_id = queued(database, clock)
    for _ in range(2):
        with database.write() as session:
            assert jobs.claim(session, "worker-0", clock.now(), LEASE)
        with database.write() as session:
            assert jobs.finish(session, job_id, "worker-0", RESULT, clock.now())
        with database.write() as session:
            jobs.retry(session, session.get_one(Job, job_id), clock.now())
    with database.read() as session:
        assert len(session.scalars(select(Report)).all()) == 1
        assert [item.peer for item in outbox.due(session, "pacs", clock.now())] == ["pacs"]


def test_a_peer_added_later_gets_the_existing_report(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    job_id = queued(database, clock)
    with database.write() as session:
        jobs.claim(session, "worker-0", clock.now(), LEASE)
        jobs.finish(session, job_id, "worker-0", RESULT, clock.now())
    assert queued(database, clock, peers=["pacs", "archive"]) is None
    with database.read() as session:
        assert sorted(session.scalars(select(Delivery.peer))) == ["archive", "pacs"]


def test_a_delivery_that_failed_can_be_sent_again(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    job_id = queued(database, clock)
    with database.write() as session:
        jobs.claim(session, "worker-0", clock.now(), LEASE)
        jobs.finish(session, job_id, "worker-0", RESULT, clock.now())
    with database.write() as session:
        outbox.mark_failed(session, 1, "refused", clock.now())
    with database.write() as session:
        assert not outbox.due(session, "pacs", clock.now())
        outbox.retry(session, session.get_one(Delivery, 1), clock.now())
    with database.write() as session:
        assert outbox.due(session, "pacs", clock.now())
        outbox.mark_sent(session, 1, "status 0x0000 (Success)", clock.now())
        assert session.get_one(Delivery, 1).state == DeliveryState.SENT
    with database.read() as session:
        assert {event.kind for event in audit.events_of(session, "1.2.3")} >= {
            "report_failed",
            "report_retried",
            "report_sent",
        }


def test_a_job_that_waits_takes_the_images_of_the_study_as_it_is_now(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    first = queued(database, clock)
    arrive(database, clock, sop="1.2.3.1.2")
    with database.write() as session:
        assert jobs.claim(session, "w0", clock.now(), LEASE) is None, "its study is receiving"
    assert queued(database, clock, inputs=["1.2.3.1.1", "1.2.3.1.2"]) is None
    with database.write() as session:
        job = jobs.claim(session, "w0", clock.now(), LEASE)
        assert job is not None
        assert (job.id, len(job.inputs)) == (first, 2)
        assert jobs.claim(session, "w0", clock.now(), LEASE) is None
    assert "job_images_changed" in kinds(database)


def test_a_job_that_has_begun_keeps_its_images_and_a_second_one_follows(database: Database) -> None:
    clock = ManualClock()
    arrive(database, clock)
    first = queued(database, clock)
    with database.write() as session:
        assert jobs.claim(session, "w0", clock.now(), LEASE) is not None
    arrive(database, clock, sop="1.2.3.1.2")
    second = queued(database, clock, inputs=["1.2.3.1.1", "1.2.3.1.2"])
    assert second not in (None, first)
