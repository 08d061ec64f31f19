"""A worker renews its claim, takes back what it held, and records nothing of what it lost."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.model.states import JobState
from dicom_node.store import jobs, losses
from dicom_node.store.database import Database
from dicom_node.store.tables import Instance, Job, Study
from tests.factories import ManualClock, radiograph
from tests.peers.ports import wait_for
from tests.unit.serve.small_node import all_jobs
from tests.unit.serve.worker_node import LEASE, Node, grades


def test_a_job_that_has_reported_does_not_become_another(
    node: Node, database: Database, clock: ManualClock, image: FileDataset
) -> None:
    node.worker(grades).run_one()
    with database.write() as session:
        jobs.retry(session, session.get_one(Job, 1), clock.now())
    node.queue(str(image.SOPInstanceUID), version="2")
    assert [job.version for job in all_jobs(database)] == ["1", "2"]


def test_a_worker_takes_back_only_what_it_held_itself(
    node: Node, database: Database, clock: ManualClock
) -> None:
    with database.write() as session:
        jobs.claim(session, "worker-1@here", clock.now(), LEASE)
    worker = node.worker(grades)
    worker.take_back()
    assert not worker.run_one()
    assert all_jobs(database)[0].worker == "worker-1@here"


def test_a_late_image_while_a_job_runs_changes_nothing_of_it(
    node: Node, database: Database, image: FileDataset
) -> None:
    late = radiograph(study="1.2.3")

    def grades_while_more_comes(job: JobInput) -> Outcome:
        node.receive(late)
        return grades(job)

    node.worker(grades_while_more_comes).run_one()
    (job,) = all_jobs(database)
    assert (job.state, job.inputs) == (JobState.DONE, [str(image.SOPInstanceUID)])
    with database.read() as session:
        assert session.scalars(select(Study)).one().state == "receiving"
        assert len(session.scalars(select(Instance)).all()) == 2


def test_a_claim_is_renewed_while_the_pipeline_runs(
    node: Node, database: Database, clock: ManualClock
) -> None:
    begun = clock.now()

    def slow(job: JobInput) -> Outcome:
        clock.move(10)
        wait_for(
            "the renewal", lambda: all_jobs(database)[0].lease_until > begun + timedelta(seconds=9)
        )
        return grades(job)

    node.worker(slow, lease=timedelta(seconds=0.3)).run_one()
    assert all_jobs(database)[0].state == JobState.DONE


def test_a_renewal_that_fails_is_told_and_the_job_goes_on(
    node: Node, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def locked(*_: object) -> bool:
        failed.set()
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(jobs, "renew", locked)

    def slow(job: JobInput) -> Outcome:
        assert failed.wait(30)
        return grades(job)

    with capture_logs() as logs:
        node.worker(slow, lease=timedelta(seconds=0.3)).run_one()
    assert all_jobs(database)[0].state == JobState.DONE
    assert any(entry["event"] == "job_claim_not_renewed" for entry in logs)


def test_a_job_lost_to_another_worker_meanwhile_records_nothing(
    node: Node, database: Database, clock: ManualClock
) -> None:
    def loses_it(job: JobInput) -> Outcome:
        clock.move(31)
        with database.write() as session:
            assert losses.requeue_lost(session, clock.now(), losses.LossPolicy(4)) == [1]
        with database.write() as session:
            assert jobs.claim(session, "worker-1@there", clock.now(), LEASE) is not None
        return grades(job)

    with capture_logs() as logs:
        node.worker(loses_it).run_one()
    assert all_jobs(database)[0].worker == "worker-1@there"
    assert node.reports_made() == {}
    assert any(entry["event"] == "job_lost" for entry in logs)


def test_running_ends_when_it_is_told_to(node: Node, database: Database) -> None:
    stop = threading.Event()
    worker = node.worker(grades)
    thread = threading.Thread(target=worker.run, args=(stop, timedelta(seconds=0.05)))
    thread.start()
    wait_for("the job", lambda: all_jobs(database)[0].state == JobState.DONE)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
