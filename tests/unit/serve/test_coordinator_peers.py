"""Reports for a peer that no route names any more are sent all the same, or fail loudly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.model.states import JobState
from dicom_node.serve.coordinator import Coordinator
from dicom_node.store import jobs, outbox
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.spool import Spool
from dicom_node.store.tables import AuditEvent, Delivery, Study
from tests.factories import ManualClock
from tests.unit.serve.small_node import bundle, config_in

Make = Callable[..., Coordinator]


@pytest.fixture
def waiting(database: Database, clock: ManualClock) -> Database:
    """A report waits for the peers `old` and `gone`."""
    now = clock.now()
    with database.write() as session:
        study = Study(
            study_instance_uid="1.2.3",
            state="settled",
            first_instance_at=now,
            last_instance_at=now,
        )
        session.add(study)
        session.flush()
        new = NewJob("kl", "1", "w", ["1.2.3.1.1"], ["old", "gone"], "r")
        jobs.enqueue(session, study, new, now)
        assert jobs.claim(session, "w0", now, timedelta(seconds=9))
        report = NewReport("SR", "1.2.840.10008.5.1.4.1.1.88.33", "2.25.1", "s/1.dcm", "h")
        jobs.finish(session, 1, "w0", JobResult(JobState.DONE, [report], []), now)
    return database


@pytest.fixture
def make(tmp_path: Path, database: Database, spool: Spool, clock: ManualClock) -> Make:
    """A coordinator that knows some peers; only `pacs` is named by a route."""

    def one(*names: str, **more: Any) -> Coordinator:
        here: dict[str, Any] = {"host": "127.0.0.1", "port": 104, **more}
        peers = {name: {**here, "ae_title": name.upper()} for name in names}
        config = config_in(tmp_path, peers=peers, accept_from=list(names if more else names[:1]))
        return Coordinator(config, {"tiny": bundle(tmp_path)}, database, spool, clock)

    return one


def states(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {row.peer: row.state for row in session.query(Delivery)}


def test_a_peer_without_a_route_gets_what_waits_and_one_that_is_gone_fails(
    make: Make, waiting: Database
) -> None:
    with capture_logs() as logs:
        node = make("pacs", "old", "xray")
    assert node._outbox.peers == {"old", "pacs"}
    with waiting.read() as session:
        rows = {row.peer: row for row in session.query(Delivery)}
        assert (rows["old"].state, rows["gone"].state) == ("pending", "failed")
        assert "has no such peer" in (rows["gone"].answer or "")
        assert session.query(AuditEvent).filter_by(kind="report_failed").count() == 1
    (told,) = [entry for entry in logs if entry["event"] == "report_failed"]
    assert (told["peer"], told["log_level"]) == ("gone", "error")


def test_what_is_queued_later_for_a_peer_without_a_route_gets_a_sender_or_fails(
    make: Make, request: pytest.FixtureRequest
) -> None:
    node = make("pacs", "old")
    assert node._outbox.peers == {"pacs"}
    database = request.getfixturevalue("waiting")
    node.send_to_all_receivers()
    assert node._outbox.peers == {"old", "pacs"}
    assert states(database) == {"old": "pending", "gone": "failed"}
    node.send_to_all_receivers()
    assert node._outbox.peers == {"old", "pacs"}


def test_what_failed_for_a_peer_that_was_added_again_is_sent_when_it_is_retried(
    make: Make, waiting: Database, clock: ManualClock
) -> None:
    make("pacs")
    assert states(waiting) == {"old": "failed", "gone": "failed"}
    node = make("pacs", "old")
    assert node._outbox.peers == {"pacs"}
    with waiting.write() as session:
        outbox.retry(session, session.query(Delivery).filter_by(peer="old").one(), clock.now())
    node.send_to_all_receivers()
    assert node._outbox.peers == {"old", "pacs"}
    assert states(waiting)["old"] == "pending"


def uncommitted(database: Database, clock: ManualClock, peer: str = "old") -> None:
    """The peer has the report, and is still to commit to it."""
    with database.write() as session:
        row = session.query(Delivery).filter_by(peer=peer).one()
        outbox.mark_sent(session, row.id, "stored", clock.now(), ask=True)


def test_what_a_peer_that_is_gone_was_to_commit_to_fails_loudly(
    make: Make, waiting: Database, clock: ManualClock
) -> None:
    uncommitted(waiting, clock)
    with capture_logs() as logs:
        make("pacs", "gone")
    with waiting.read() as session:
        row = session.query(Delivery).filter_by(peer="old").one()
        assert (row.state, row.ask_at) == ("failed", None)
        assert row.answer == (
            "not committed: the node.yaml that the node runs with has no such peer"
        )
        (event,) = session.query(AuditEvent).filter_by(kind="report_failed")
        assert (event.peer, event.study_uid) == ("old", "1.2.3")
    (told,) = [entry for entry in logs if entry["event"] == "report_failed"]
    assert (told["peer"], told["objects"], told["log_level"]) == ("old", 1, "error")
    assert "retry --peer old" in told["fix"]


def test_what_a_peer_that_is_gone_was_to_commit_to_is_sent_again_when_it_is_back(
    make: Make, waiting: Database, clock: ManualClock
) -> None:
    uncommitted(waiting, clock)
    make("pacs", "gone")
    assert states(waiting)["old"] == "failed"
    with waiting.write() as session:
        outbox.retry(session, session.query(Delivery).filter_by(peer="old").one(), clock.now())
    assert "old" in make("pacs", "old", "gone")._outbox.peers
    assert states(waiting)["old"] == "pending"


def test_what_a_peer_was_to_commit_to_that_is_not_asked_any_more_stays_sent(
    make: Make, waiting: Database, clock: ManualClock
) -> None:
    uncommitted(waiting, clock)
    make("pacs", "old", "gone")
    with waiting.read() as session:
        row = session.query(Delivery).filter_by(peer="old").one()
        # it holds up nothing any more: retention would keep its study for ever
        assert (row.state, row.ask_at) == ("sent", None)
        assert "`storage_commitment`" in (row.answer or "")
        (event,) = session.query(AuditEvent).filter_by(kind="commitment_not_offered")
        assert event.peer == "old"


def test_a_peer_that_is_still_to_commit_has_a_sender_from_the_start(
    make: Make, waiting: Database, clock: ManualClock
) -> None:
    uncommitted(waiting, clock)
    assert make("pacs", "old", storage_commitment=True)._outbox.peers == {"old", "pacs"}
    with waiting.read() as session:
        row = session.query(Delivery).filter_by(peer="old").one()
        assert (row.state, row.ask_at) == ("sent", clock.now())


def test_the_running_coordinator_looks_for_receivers_again_and_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recurs: list[str] = []
    node = make("pacs")
    monkeypatch.setattr(node._timetable, "every", lambda _, work: recurs.append(work.__name__))
    over = threading.Event()
    over.set()
    node.run(over)
    assert "send_to_all_receivers" in recurs
