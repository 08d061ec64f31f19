"""Hosts with a data folder each: who they are, what a study waits for, who holds what."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.errors import StoreError
from dicom_node.model.states import StudyState
from dicom_node.store import hosts, index, jobs, retention
from dicom_node.store.hosts import HostState
from dicom_node.store.kept import KeptKind
from dicom_node.store.retention import Kept, Rules
from dicom_node.store.tables import Instance, Study
from tests.factories import facts
from tests.unit.store.lifecycles import Store

QUIET = timedelta(seconds=60)


def register(store: Store, name: str, folder: str = "a" * 32) -> None:
    with store.database.write() as session:
        hosts.register(session, name, folder, f"{name}:1", store.clock.now())


def heard(store: Store, name: str, **state: object) -> None:
    """A host says that all that it has is in the index."""
    now = store.clock.now()
    with store.database.write() as session:
        hosts.heard(session, name, now, now, HostState(**{"receives": True, **state}))  # type: ignore[arg-type]


def arrive(store: Store, sop: str, host: str | None, sha256: str = "") -> index.Indexed:
    item = facts(sop=sop)
    now = store.clock.now()
    arrival = index.Arrival(item, f"studies/{sop}", sha256 or sop, now, host)
    with store.database.write() as session:
        return index.add_instance(session, arrival, now)


def held(store: Store) -> dict[str, str | None]:
    with store.database.read() as session:
        return {row.sop_instance_uid: row.host for row in session.scalars(select(Instance))}


def missing(store: Store) -> str | None:
    with store.database.read() as session:
        study = session.scalars(select(Study)).one()
        return hosts.unindexed(hosts.lines(session), study, store.clock.now(), QUIET)


def test_another_data_folder_may_not_take_a_hosts_name(store: Store) -> None:
    register(store, "rx-1")
    register(store, "rx-1")
    with pytest.raises(StoreError, match="another data folder"):
        register(store, "rx-1", "b" * 32)
    with store.database.write() as session:
        hosts.forget(session, "rx-1", store.clock.now())
    register(store, "rx-1", "b" * 32)


def test_a_study_waits_for_what_a_host_has_not_indexed(store: Store) -> None:
    register(store, "rx-1")
    register(store, "rx-2")
    heard(store, "rx-1")
    heard(store, "rx-2")
    arrive(store, "1", "rx-1")
    store.clock.move(59)
    heard(store, "rx-1")
    store.clock.move(2)
    heard(store, "rx-1")
    assert missing(store) == "rx-2"
    heard(store, "rx-2")
    assert missing(store) is None


def test_a_host_that_receives_nothing_is_not_waited_for(store: Store) -> None:
    register(store, "ai")
    heard(store, "ai", receives=False)
    arrive(store, "1", None)
    store.clock.move(300)
    assert missing(store) is None


@pytest.mark.parametrize(("began_after", "waits"), [(59, True), (61, False)])
def test_only_a_study_that_may_have_begun_before_a_host_was_gone_waits_for_it(
    store: Store, began_after: float, waits: bool
) -> None:
    register(store, "rx-2")
    heard(store, "rx-2")
    store.clock.move(began_after)
    arrive(store, "1", "rx-1")
    store.clock.move(500)
    assert (missing(store) == "rx-2") is waits


def test_the_newest_copy_of_an_image_counts(store: Store) -> None:
    assert arrive(store, "1", "rx-1") is index.Indexed.NEW
    assert arrive(store, "1", "rx-1") is index.Indexed.DUPLICATE
    assert arrive(store, "1", "rx-2") is index.Indexed.MOVED
    assert held(store) == {"1": "rx-2"}
    assert arrive(store, "1", "rx-1", sha256="other content") is index.Indexed.CONFLICT
    assert held(store) == {"1": "rx-2"}
    assert store.study().state == StudyState.RECEIVING


def test_a_copy_on_another_host_does_not_reopen_a_study(store: Store) -> None:
    arrive(store, "1", "rx-1")
    store.route("1")
    assert arrive(store, "1", "rx-2") is index.Indexed.MOVED
    assert store.study().state == StudyState.SETTLED


def test_each_host_gives_up_what_it_holds_and_nothing_else(store: Store) -> None:
    register(store, "rx-1")
    register(store, "rx-2")
    arrive(store, "1", "rx-1")
    arrive(store, "2", "rx-2")
    _finish(store)
    rules, kind = Rules(), Kept.IMAGES
    with store.database.write() as session:
        (item,) = retention.finished(session, kind, rules, host="rx-1")
        assert retention.paths(session, kind, item.study_id, "rx-1") == ["studies/1"]
        assert retention.finished(session, kind, rules) == []
        assert retention.give_up(session, kind, item.study_id, rules, store.clock.now(), "rx-1")
        assert retention.finished(session, kind, rules, host="rx-1") == []
        assert len(retention.finished(session, kind, rules, host="rx-2")) == 1
    with store.database.write() as session:
        # a copy that another host holds, too, may be removed here
        given_up = retention.given_up(session, kind, ["1.2.3"], "rx-1")
        assert sorted(given_up) == ["studies/1", "studies/2"]
        assert retention.given_up(session, kind, ["1.2.3"], "rx-2") == ["studies/1"]
        retention.removed(session, kind, ["1.2.3"], "rx-1")
    assert held(store) == {"1": None, "2": "rx-2"}


def test_what_a_host_held_that_was_forgotten_is_given_up_by_the_others(store: Store) -> None:
    register(store, "rx-1")
    register(store, "gone")
    arrive(store, "1", "gone")
    _finish(store)
    now, rules = store.clock.now(), Rules()
    with store.database.write() as session:
        assert retention.finished(session, Kept.IMAGES, rules, host="rx-1") == []
        hosts.forget(session, "gone", now)
        # nobody else would, and its rows, with the patient's name, would stay for ever
        assert len(retention.finished(session, Kept.IMAGES, rules, host="rx-1")) == 1
        assert retention.give_up(session, Kept.IMAGES, 1, rules, now, "rx-1")
        retention.removed(session, Kept.IMAGES, ["1.2.3"], "rx-1")
        assert len(retention.finished(session, Kept.RECORDS, rules, host="rx-1")) == 1
    assert held(store) == {"1": None}


def test_rows_stay_until_every_host_has_removed_its_files(store: Store) -> None:
    register(store, "rx-1")
    register(store, "rx-2")
    arrive(store, "1", "rx-1")
    _finish(store)
    now, rules = store.clock.now(), Rules()
    with store.database.write() as session:
        retention.give_up(session, Kept.IMAGES, 1, rules, now, "rx-1")
        assert retention.finished(session, Kept.RECORDS, rules, host="rx-2") == []
        retention.removed(session, Kept.IMAGES, ["1.2.3"], "rx-1")
        assert len(retention.finished(session, Kept.RECORDS, rules, host="rx-2")) == 1


def _finish(store: Store) -> None:
    with store.database.write() as session:
        study = session.scalars(select(Study)).one()
        study.state, study.settled_at = StudyState.SETTLED, store.clock.now()
        study.revision = study.routed_revision = 1


def test_a_host_that_holds_nothing_may_leave(store: Store) -> None:
    register(store, "rx-1")
    register(store, "rx-2")
    arrive(store, "1", "rx-1")
    with store.database.write() as session:
        assert [hosts.leave(session, name) for name in ("rx-1", "rx-2")] == [False, True]
        assert [line.name for line in hosts.lines(session)] == ["rx-1"]
        assert hosts.held_by(session, "rx-1") == hosts.Held(files=1, studies=1)


def test_a_host_that_is_away_is_told_with_what_waits_for_it(store: Store) -> None:
    register(store, "rx-1")
    heard(store, "rx-1")
    arrive(store, "1", "rx-1")
    store.route("1")
    job = store.claim()
    assert job is not None
    error = {"what": "host rx-1", "why": "it is away", "fix": "start it", "reason": "host"}
    store.clock.move(31)
    with store.database.write() as session:
        at = store.clock.now()
        jobs.fail(session, job.id, "worker-0", error, at, at, counts=False)
        (line,) = hosts.away(session, store.clock.now())
    assert line.text == "it holds files of 1 study; 1 job waits for it"


def test_files_of_the_time_before_are_taken_over_by_the_host_that_has_them(store: Store) -> None:
    arrive(store, "1", None)
    arrive(store, "2", "rx-2")
    with store.database.write() as session:
        hosts.adopt(session, "rx-1", KeptKind.INSTANCE, [1, 2])
    assert held(store) == {"1": "rx-1", "2": "rx-2"}
