"""Jobs that take down their workers, and the studies and pipelines they belong to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.errors import TransitionError
from dicom_node.model.states import HoldReason
from dicom_node.store import jobs, losses, notices, overview
from dicom_node.store.jobs import NewReport
from dicom_node.store.tables import Job
from tests.unit.store.lifecycles import POLICY, Store


def test_a_job_that_takes_down_its_worker_waits_behind_others_then_fails_with_the_reason(
    store: Store,
) -> None:
    for study in ("1.1", "1.2"):
        store.arrive(f"{study}.1", study)
        store.route(f"{study}.1", study=study, pipeline=f"of {study}")
    assert store.claim().id == 1  # type: ignore[union-attr]
    store.lose()
    assert store.job(1).state == "queued"
    store.clock.move(10)
    assert store.claim().id == 2, "it was there before the second try was due"  # type: ignore[union-attr]
    assert store.claim("worker-1").id == 1  # type: ignore[union-attr]
    store.lose(worker="worker-1")
    job = store.job(1)
    assert (job.state, job.attempts, job.notice) == ("failed", 2, "due")
    assert job.error == {
        "what": "job 1",
        "why": "it crashed its worker with signal 11 (SIGSEGV) (in each of 2 tries)",
        "fix": "see the worker's log, then `dicom-node retry 1`",
        "reason": "crashed",
    }


def test_a_worker_that_is_lost_for_an_unknown_reason_gets_the_job_one_more_try(
    store: Store,
) -> None:
    store.arrive("1")
    store.route("1")
    for state in ("queued", "queued", "failed"):
        assert store.claim()
        store.lose(None)
        assert store.job(1).state == state
    assert store.study().lost_workers == 0
    with store.database.read() as session:
        assert overview.suspects(session) == []


def test_a_suspect_pipeline_has_one_worker_at_a_time_until_it_finishes_a_job(store: Store) -> None:
    for study in ("1.1", "1.2", "1.3"):
        store.arrive(f"{study}.1", study)
        store.route(f"{study}.1", study=study)
    store.arrive("2.1.1", "2.1")
    store.route("2.1.1", study="2.1", pipeline="hip")
    assert store.claim()
    store.lose()
    with store.database.read() as session:
        assert [line.pipeline for line in overview.suspects(session)] == ["kl"]
    second = store.claim()
    assert second is not None
    assert second.pipeline == "kl"
    other = store.claim("worker-1")
    assert other is not None
    assert other.pipeline == "hip"
    assert store.claim("worker-2") is None
    store.finish(second)
    assert store.claim("worker-1").pipeline == "kl"  # type: ignore[union-attr]
    assert store.claim("worker-2") is None, "the first waits for its next try"


def test_a_worker_that_is_alive_and_late_keeps_its_job_for_as_long_as_it_may_hang(
    store: Store,
) -> None:
    store.arrive("1")
    store.route("1")
    assert store.claim()
    store.clock.move(31)

    def late(alive: list[str]) -> list[int]:
        with store.database.write() as session:
            return losses.requeue_lost(
                session, store.clock.now(), POLICY, alive=alive, patience=timedelta(seconds=600)
            )

    assert late(["worker-0"]) == []
    store.clock.move(600)
    assert late(["worker-0"]) == [1]


def test_a_study_whose_jobs_take_down_workers_is_quarantined_and_its_jobs_wait(
    store: Store,
) -> None:
    store.arrive("1")
    for pipeline in ("kl", "hip"):
        store.route("1", pipeline=pipeline)
    for _ in range(3):
        assert store.claim()
        store.lose()
        store.clock.move(60)
    study = store.study()
    assert (study.held_reason, study.lost_workers) == (HoldReason.QUARANTINED, 3)
    assert store.claim() is None
    (event,) = store.events("study_held")
    assert event["reason"] == "quarantined"
    with store.database.read() as session:
        assert [line.reason for line in overview.held(session)] == ["quarantined"]
    failed = [number for number in (1, 2) if store.job(number).state == "failed"]
    assert len(failed) == 1
    with store.database.write() as session, pytest.raises(TransitionError, match="is held"):
        jobs.retry(session, session.get_one(Job, failed[0]), store.clock.now())
    assert store.release() == failed
    assert store.claim() is not None
    (event,) = store.events("study_released")
    assert (event["by"], event["reason"], event["held_for"]) == (
        "admin",
        "looked at",
        "quarantined",
    )
    assert store.study().lost_workers == 0


def test_a_job_with_an_attempt_too_many_reports_its_failure_once(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    for _ in range(2):
        assert store.claim()
        store.lose()
        store.clock.move(60)
    with store.database.write() as session:
        job = notices.due(session)
        assert job is not None
        made = [NewReport("SR", "1.2", "2.25.9", "s/9.dcm", "h")]
        notices.put(session, job.id, made, store.clock.now())
    assert store.deliveries() == ["pending"]
    with store.database.read() as session:
        assert notices.due(session) is None
