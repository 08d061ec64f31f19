"""A clock that was put back, or that another host has ahead, holds up nothing."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from dicom_node.model.states import StudyState
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Delivery, Job
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import (
    QUIET,
    Make,
    events,
    finish_a_job,
    put_into_inbox,
    settled,
    the_study,
)


def test_a_clock_that_was_put_back_holds_up_no_study(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    clock.move(3600)
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    clock.move(-3600)
    with capture_logs() as logs:
        node.settle_and_route()
        clock.move(QUIET - 1)
        node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.RECEIVING
    assert [line["studies"] for line in logs if line["event"] == "studies_dated_ahead"] == [1]
    clock.move(1)
    node.settle_and_route()
    assert the_study(database, "1.2.3").state == StudyState.SETTLED
    assert len(events(database, "study_dated_ahead")) == 1


def test_what_was_to_be_tried_again_while_the_clock_was_ahead_is_tried_now(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    settled(node, clock)
    finish_a_job(database, clock)
    put_into_inbox(spool, radiograph(study="1.2.4"))
    settled(node, clock)

    def wait(seconds: float) -> None:
        at = clock.now() + timedelta(seconds=seconds)
        with database.write() as session:
            session.query(Job).filter_by(state="queued").one().not_before = at
            session.query(Delivery).one().next_attempt_at = at

    def times() -> tuple[datetime | None, datetime]:
        with database.read() as session:
            job = session.query(Job).filter_by(state="queued").one()
            return job.not_before, session.query(Delivery).one().next_attempt_at

    wait(900)
    before = times()
    node.let_go_what_waits_ahead()
    assert times() == before
    wait(3600)
    with capture_logs() as logs:
        node.let_go_what_waits_ahead()
        node.let_go_what_waits_ahead()
    assert times() == (clock.now(), clock.now())
    assert [(line["jobs"], line["deliveries"]) for line in logs] == [(1, 1)]


def test_a_study_of_a_host_whose_clock_is_a_little_ahead_keeps_its_time(
    make: Make, database: Database, spool: Spool, clock: ManualClock
) -> None:
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    clock.move(-60)
    node.settle_and_route()
    assert events(database, "study_dated_ahead") == []


def test_the_running_coordinator_keeps_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make()
    over = threading.Event()
    kept: list[str] = []
    monkeypatch.setattr(node._timetable, "keep_time", lambda: kept.append("coordinator"))
    monkeypatch.setattr(node._watching, "keep_time", lambda: (kept.append("watching"), over.set()))
    node.run(over)
    assert kept == ["coordinator", "watching"]
