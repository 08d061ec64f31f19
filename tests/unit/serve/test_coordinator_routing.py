"""Routing that fails, or is overtaken by an image, is that study's own trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dicom_node.errors import NodeError, PipelineError
from dicom_node.model.states import HoldReason
from dicom_node.serve import coordinator as coordinator_module
from dicom_node.serve import lifecycle
from dicom_node.serve.needs import _studies_in_need
from dicom_node.store import index, retention, trouble
from dicom_node.store.database import Database
from dicom_node.store.retention import Kept, Rules
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Study
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import (
    QUIET,
    Make,
    all_jobs,
    events,
    put_into_inbox,
    settled,
    the_study,
)

Breaks = Callable[[Exception], AbstractContextManager[None]]


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Breaks:
    """Lets the routing of study 1.2.3 raise an error for a while."""
    whole = coordinator_module.decide

    @contextmanager
    def with_error(error: Exception) -> Iterator[None]:
        def decide(routes: Any, specs: Any, facts: Any, peers: Any) -> Any:
            if facts[0].study_instance_uid == "1.2.3":
                raise error
            return whole(routes, specs, facts, peers)

        with monkeypatch.context() as broken:
            broken.setattr(coordinator_module, "decide", decide)
            yield

    return with_error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("Doe^Jane"), "ValueError at coordinator.py"),
        (PipelineError("pipeline tiny", "it is broken", "mend it"), "it is broken"),
    ],
)
def test_routing_that_fails_on_one_study_is_recorded_there_and_holds_up_no_other(
    make: Make,
    database: Database,
    spool: Spool,
    clock: ManualClock,
    breaks: Breaks,
    error: Exception,
    told: str,
) -> None:
    node = make()
    for study in ("1.2.3", "1.2.4"):
        put_into_inbox(spool, radiograph(study=study))
    with capture_logs() as logs, breaks(error):
        settled(node, clock)
        # not tried for ever, but again when it is released
        node.settle_and_route()
    assert [job.study_id for job in all_jobs(database)] == [the_study(database, "1.2.4").id]
    bad = the_study(database, "1.2.3")
    assert (bad.held_reason, bad.routed_revision) == (HoldReason.ROUTING_FAILED, 0)
    assert told in (bad.held_text or "")
    assert "dicom-node release 1.2.3 --reason" in (bad.held_text or "")
    assert len(events(database, "study_routing_failed")) == 1
    audited = f"{events(database, 'study_routing_failed')}{events(database, 'study_held')}"
    assert "Doe" not in f"{logs}{bad.held_text}{audited}"
    assert any(entry["event"] == "study_routing_failed" for entry in logs)
    with database.write() as session:
        lifecycle.release(session, "1.2.3", clock.now(), "admin", "the route is mended")
    node.settle_and_route()
    assert len(all_jobs(database)) == 2
    assert the_study(database, "1.2.3").held_at is None


def test_a_study_whose_routing_failed_waits_for_a_person_and_keeps_its_images(
    make: Make,
    database: Database,
    spool: Spool,
    clock: ManualClock,
    breaks: Breaks,
) -> None:
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    with breaks(ValueError("no")):
        settled(node, clock)
        # a late image is no way out, nor is a retry
        put_into_inbox(spool, radiograph(study="1.2.3"))
        settled(node, clock)
    with database.write() as session, pytest.raises(NodeError, match="it is held"):
        lifecycle.route_again(session, "1.2.3", clock.now())
    assert len(events(database, "study_routing_failed")) == 1
    clock.move(90 * 86400)
    with database.read() as session:
        needs = list(_studies_in_need(session))
        held = trouble.held_studies(session)
        assert retention.finished(session, Kept.IMAGES, Rules()) == []
    assert ["routing failed" in need.text for need in needs] == [True]
    assert held is not None
    assert held.oldest == "1.2.3"
    with database.write() as session:
        lifecycle.release(session, "1.2.3", clock.now(), "admin", "the route is mended")
    node.settle_and_route()
    assert [len(job.inputs) for job in all_jobs(database)] == [2]


def test_trouble_with_the_database_is_not_the_study_s(
    make: Make,
    database: Database,
    spool: Spool,
    clock: ManualClock,
    breaks: Breaks,
) -> None:
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    locked = OperationalError("SELECT", {}, Exception("database is locked"))
    with breaks(locked), pytest.raises(OperationalError):
        settled(node, clock)
    assert the_study(database, "1.2.3").unrouted_reason is None
    node.settle_and_route()
    assert len(all_jobs(database)) == 1


def test_a_study_reopened_before_its_turn_is_not_routed_half(
    make: Make,
    database: Database,
    spool: Spool,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The image comes between the look at what is to be routed and the routing."""
    node = make()
    put_into_inbox(spool, radiograph(study="1.2.3"))
    node.settle_and_route()
    clock.move(QUIET)
    look = index.to_route
    late = [radiograph(study="1.2.3")]

    def to_route(session: Any) -> Sequence[Study]:
        found = look(session)
        if found and late:
            put_into_inbox(spool, late.pop())
            session.rollback()
            Indexer(database, spool, clock).index_waiting()
        return found

    monkeypatch.setattr(index, "to_route", to_route)
    node.settle_and_route()
    assert all_jobs(database) == []
    clock.move(QUIET)
    node.settle_and_route()
    assert [len(job.inputs) for job in all_jobs(database)] == [2]
