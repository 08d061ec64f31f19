"""The coordinator: from the inbox to the queue of jobs, one study's trouble being its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.delivery import Answer, Outgoing, Verdict
from dicom_node.errors import NodeError
from dicom_node.model.peers import Peer
from dicom_node.model.states import JobState, StudyState
from dicom_node.serve import coordinator as coordinator_module
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Delivery
from tests.factories import ManualClock, radiograph
from tests.peers.ports import wait_for
from tests.unit.serve.small_node import (
    QUIET,
    Make,
    all_jobs,
    events,
    finish_a_job,
    put_into_inbox,
    settled,
    the_study,
)


def test_a_study_settles_when_no_image_has_come_for_the_quiet_time(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    node = make()
    clock.move(1000)
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    clock.move(QUIET - 1)
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    clock.move(QUIET - 1)
    node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING
    assert all_jobs(database) == []
    clock.move(1)
    node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.SETTLED
    (job,) = all_jobs(database)
    assert (job.state, len(job.inputs), job.peers) == (JobState.QUEUED, 2, ["pacs"])


def test_an_image_that_waits_in_the_inbox_keeps_its_study_from_settling(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    clock.move(QUIET)
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING


def test_after_a_start_senders_get_the_quiet_time_before_anything_settles(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    put_into_inbox(spool, radiograph(study="1.2.3"))
    make().settle_and_route()
    clock.move(10 * QUIET)
    node = make()
    node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING
    clock.move(QUIET)
    node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.SETTLED


def test_a_late_image_reopens_the_study_and_the_job_that_waits_takes_it(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    settled(node, clock)
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING
    clock.move(QUIET)
    node.settle_and_route()
    assert [len(job.inputs) for job in all_jobs(database)] == [2]
    assert len(events(database, "study_reopened")) == 1


def test_the_same_image_again_queues_nothing_new(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    node = make()
    image = radiograph(study="1.2.3")
    put_into_inbox(spool, image)
    settled(node, clock)
    put_into_inbox(spool, image)
    settled(node, clock)
    assert len(all_jobs(database)) == 1


def test_a_study_that_no_route_wants_is_recorded_with_the_reason(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    put_into_inbox(spool, radiograph(study="1.2.3", BodyPartExamined="CHEST"))
    settled(make(), clock)
    assert "knees" in (the_study(database, "1.2.3").unrouted_reason or "")
    assert all_jobs(database) == []
    (told,) = events(database, "study_unrouted")
    assert told["pipelines"] == []


def test_a_job_whose_worker_died_is_queued_again_a_few_times_then_failed_with_a_reason(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    node = make(inference={"attempts": 2, "lease_seconds": 30})
    put_into_inbox(spool, radiograph(study="1.2.3"))
    settled(node, clock)
    lease = coordinator_module.timedelta(seconds=30)
    for _ in range(3):
        node.take_back_lost_jobs()
        with database.write() as session:
            assert jobs.claim(session, "worker-0@here", clock.now(), lease) is not None
        node.take_back_lost_jobs()
        assert all_jobs(database)[0].state == JobState.RUNNING
        clock.move(31)
    node.take_back_lost_jobs()
    (job,) = all_jobs(database)
    assert (job.state, job.attempts) == (JobState.FAILED, 3)
    assert "its worker died while running it (in each of 3 tries)" in job.error["why"]
    assert len(events(database, "job_requeued")) == 2
    (failed,) = events(database, "job_failed")
    assert failed["why"] == job.error["why"]
    assert "dicom-node retry" in failed["fix"]


@pytest.fixture
def peer_says(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """A PACS that takes everything; the list holds what came."""
    came: list[Outgoing] = []

    class Pacs:
        def send(self, objects: Sequence[Outgoing]) -> Iterator[Answer]:
            for item in objects:
                came.append(item)
                yield Answer(item.id, Verdict.SENT, "status 0x0000 (Success)")

        def check(self) -> str | None:
            return None

    def destination_for(_: object, peer: Peer) -> Pacs:
        assert peer.ae_title == "PACS"
        return Pacs()

    monkeypatch.setattr(coordinator_module, "destination_for", destination_for)
    return came


def test_running_it_indexes_settles_and_sends_although_its_work_fails_at_first(
    make: Make,
    database: Database,
    spool: Spool,
    clock: ManualClock,
    peer_says: list[Outgoing],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = 3
    waiting = Spool.waiting

    def fails_at_first(self: Spool) -> list[Path]:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("Doe^Jane")
        return waiting(self)

    monkeypatch.setattr(Spool, "waiting", fails_at_first)
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    stop = threading.Event()
    with capture_logs() as logs:
        runs = threading.Thread(target=node.run, args=(stop,))
        runs.start()
        try:
            wait_for("the study", lambda: waiting(spool) == [])
            clock.move(QUIET)
            wait_for("the job", lambda: all_jobs(database))
            finish_a_job(database, clock)
            wait_for("the report's way to the PACS", lambda: peer_says)
        finally:
            stop.set()
            runs.join(30)
    assert not runs.is_alive()
    assert [item.sop_class_uid for item in peer_says] == ["1.2.840.10008.5.1.4.1.1.88.34"]
    with database.read() as session:
        assert session.get_one(Delivery, 1).state == "sent"
    assert any(entry["event"] == "recurring_work_failed" for entry in logs)
    assert any(entry["event"] == "recurring_work_recovered" for entry in logs)
    assert "Doe" not in str(logs)


@pytest.mark.parametrize(("left", "aims"), [(0.4, True), (5.0, False)])
def test_a_study_that_will_soon_be_quiet_is_looked_at_in_that_moment(
    make: Make,
    spool: Spool,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    left: float,
    aims: bool,
) -> None:
    node = make()
    put_into_inbox(spool, radiograph())
    node.settle_and_route()
    aimed: list[datetime] = []
    monkeypatch.setattr(node._timetable, "next_at", lambda _, at: aimed.append(at))
    clock.move(QUIET - left)
    began = datetime.now(UTC)
    node.settle_in_time()
    ended = datetime.now(UTC)
    in_time = timedelta(seconds=left)
    assert [began + in_time <= at <= ended + in_time for at in aimed] == [True] * aims


def test_a_sender_that_dies_ends_the_role_so_that_it_is_started_anew(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make()
    monkeypatch.setattr(type(node._outbox), "alive", property(lambda _: False))
    with pytest.raises(NodeError, match="sender thread"):
        node.run(threading.Event())
