"""A late image outdates what is running, waiting or made."""

from __future__ import annotations

import pytest

from dicom_node.errors import TransitionError
from dicom_node.model.states import JobState
from dicom_node.store import held, jobs, outbox, retention
from dicom_node.store.jobs import JobResult, NewReport
from dicom_node.store.tables import Job
from tests.unit.store.lifecycles import Store


def test_a_result_made_while_a_late_image_came_is_kept_back_and_never_sent(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    job = store.claim()
    assert job is not None
    store.arrive("2")
    store.finish(job)
    assert store.deliveries() == []
    store.route("1", "2")
    assert store.job(1).superseded_by == 2
    assert store.deliveries() == []
    second = store.claim()
    assert second is not None
    store.finish(second)
    assert store.deliveries() == ["pending"]
    assert len(store.events("job_superseded")) == 1


def test_a_result_that_the_late_image_does_not_touch_goes_out_when_routing_has_seen_it(
    store: Store,
) -> None:
    store.arrive("1")
    store.route("1")
    job = store.claim()
    assert job is not None
    store.arrive("2")
    store.finish(job)
    store.route("1")
    assert (store.deliveries(), store.due()) == (["pending"], 1)
    assert store.events("report_let_out") == [{"deliveries": 1}]


def test_what_waits_for_a_peer_waits_for_a_late_image_too_and_is_withdrawn(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    assert store.due() == 1
    store.arrive("2")
    assert store.due() == 0, "it may be outdated"
    store.route("1", "2")
    assert (store.deliveries(), store.due()) == (["superseded"], 0)


def test_what_a_peer_has_a_part_of_is_not_withdrawn_there(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    job = store.claim()
    assert job is not None
    pair = [NewReport(kind, "1.2", f"2.25.{kind}", f"{kind}.dcm", "h") for kind in ("SR", "SC")]
    with store.database.write() as session:
        jobs.finish(
            session, job.id, "worker-0", JobResult(JobState.DONE, pair, []), store.clock.now()
        )
    store.sent(1)
    store.arrive("2")
    store.route("1", "2")
    assert store.deliveries() == ["sent", "pending"]


def test_what_was_on_its_way_when_it_was_withdrawn_is_recorded_as_it_ended(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.arrive("2")
    store.route("1", "2")
    store.sent(1)
    assert store.deliveries() == ["sent"]


def test_a_job_that_waits_for_its_next_try_takes_a_late_image_and_starts_afresh(
    store: Store,
) -> None:
    store.arrive("1")
    store.route("1")
    assert store.claim()
    store.lose()
    store.arrive("2")
    store.route("1", "2")
    job = store.job(1)
    assert (job.state, job.attempts, job.inputs, job.error) == ("queued", 0, ["1", "2"], None)


def test_an_outdated_job_that_fails_is_not_tried_again(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    assert store.claim()
    store.arrive("2")
    store.route("1", "2")
    store.lose()
    assert store.job(1).state == "failed"
    with store.database.write() as session, pytest.raises(TransitionError, match="job 2 has taken"):
        jobs.retry(session, session.get_one(Job, 1), store.clock.now())


def test_an_older_version_that_is_wanted_again_takes_its_place_back(store: Store) -> None:
    store.arrive("1")
    for version in ("1", "2"):
        store.route("1", version=version)
        store.finish(store.claim())  # type: ignore[arg-type]
    assert store.deliveries() == ["superseded", "pending"]
    store.route("1", version="1")
    assert store.deliveries() == ["pending", "superseded"]
    assert (store.job(1).superseded_by, store.job(2).superseded_by) == (None, 1)


def test_what_a_peer_has_in_part_is_given_up_with_a_discarded_study(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    job = store.claim()
    assert job is not None
    made = [NewReport(kind, "1.2", f"2.25.{kind}", "s", "h") for kind in ("1", "2", "3")]
    now = store.clock.now()
    with store.database.write() as session:
        assert jobs.finish(session, job.id, "worker-0", JobResult(JobState.DONE, made, []), now)
    store.sent(1)
    with store.database.write() as session:
        outbox.mark_failed(session, 2, "the peer refuses it", now)
        assert retention.finished(session, retention.Kept.IMAGES, retention.Rules()) == []
        study = held.find(session, "1.2.3")
        assert held.discard(session, study, now, "jane", "a test") == 2
    assert store.deliveries() == ["sent", "superseded", "superseded"]
    with store.database.read() as session:
        # or its images would stay for ever
        assert retention.finished(session, retention.Kept.IMAGES, retention.Rules())
