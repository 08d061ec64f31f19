"""Held studies, lost workers, outdated results: nothing wrong goes out, nothing is stuck."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.errors import NodeError, TransitionError
from dicom_node.model.states import DeliveryState, HoldReason, JobState, StudyState
from dicom_node.store import held, index, jobs, losses, notices, outbox, overview, withheld
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.losses import Loss, LossPolicy
from dicom_node.store.tables import AuditEvent, Delivery, Instance, Job, Study
from tests.factories import ManualClock, facts

LEASE = timedelta(seconds=30)
POLICY = LossPolicy(2, timedelta(seconds=5), quarantine_after=3, report_failures=True)
CRASH = Loss("crashed", "it crashed its worker with signal 11 (SIGSEGV)", blamed=True)
JANE = {"PatientID": "4711", "PatientName": "Doe^Jane"}
RICHARD = {"PatientID": "4712", "PatientName": "Roe^Richard"}


class Store:
    """The index and the queues, one step at a time."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, ManualClock()

    def arrive(
        self, sop: str, study: str = "1.2.3", sha256: str = "", hold: bool = True, **of: object
    ) -> index.Indexed:
        item = facts(study=study, series=f"{study}.1", sop=sop, **of)  # type: ignore[arg-type]
        now = self.clock.now()
        arrival = index.Arrival(item, f"studies/{sop}", sha256 or sop, now)
        with self.database.write() as session:
            return index.add_instance(session, arrival, now, hold_changed_patient=hold)

    def route(
        self, *inputs: str, study: str = "1.2.3", pipeline: str = "kl", version: str = "1"
    ) -> None:
        """Settle a study and decide on it, as the coordinator does."""
        now = self.clock.now()
        with self.database.write() as session:
            row = held.find(session, study)
            if row.state == StudyState.RECEIVING:
                row.state, row.settled_at = StudyState.SETTLED, now
                row.revision += 1
            new = NewJob(pipeline, version, "w", list(inputs), ["pacs"], "route knees")
            jobs.enqueue(session, row, new, now)
            row.routed_revision = row.revision
            withheld.deliver_withheld(session, row, now)

    def claim(self, worker: str = "worker-0") -> Job | None:
        with self.database.write() as session:
            return jobs.claim(session, worker, self.clock.now(), LEASE)

    def finish(self, job: Job, worker: str = "worker-0") -> None:
        report = NewReport("SR", "1.2", f"2.25.{job.id}", f"s/{job.id}.dcm", "h")
        result = JobResult(JobState.DONE, [report], [("statement", {"text": "KL 2"})])
        with self.database.write() as session:
            assert jobs.finish(session, job.id, worker, result, self.clock.now())

    def lose(self, loss: Loss | None = CRASH, worker: str = "worker-0") -> None:
        with self.database.write() as session:
            losses.requeue_lost(
                session,
                self.clock.now(),
                POLICY,
                worker=worker,
                loss=None if loss is None else lambda _: loss,
            )

    def job(self, number: int) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, number)

    def study(self, uid: str = "1.2.3") -> Study:
        with self.database.read() as session:
            return held.find(session, uid)

    def deliveries(self) -> list[str]:
        with self.database.read() as session:
            return list(session.scalars(select(Delivery.state).order_by(Delivery.id)))

    def due(self) -> int:
        with self.database.read() as session:
            return len(outbox.due(session, "pacs", self.clock.now()))

    def sent(self, number: int) -> None:
        with self.database.write() as session:
            outbox.mark_sent(session, number, "status 0x0000 (Success)", self.clock.now())

    def events(self, kind: str) -> list[dict[str, object]]:
        with self.database.read() as session:
            rows = session.scalars(select(AuditEvent).where(AuditEvent.kind == kind))
            return [row.data for row in rows]

    def release(self, uid: str = "1.2.3") -> list[int]:
        with self.database.write() as session:
            row = held.find(session, uid)
            return held.release(session, row, self.clock.now(), "admin", "looked at")


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


# outdated results


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


# lost workers


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


# changed patients


@pytest.mark.parametrize("sop", ["1", "2"], ids=["same image", "new image"])
def test_an_image_of_another_patient_holds_its_study_and_nothing_of_it_goes_out(
    store: Store, sop: str
) -> None:
    store.arrive("1", **JANE)
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.arrive(sop, sha256="other", **RICHARD)
    study = store.study()
    assert study.held_reason == HoldReason.CHANGED_PATIENT
    assert study.held_text == (
        "an image from XR differs from those before in PatientID, PatientName"
    )
    assert store.due() == 0
    (event,) = store.events("study_held")
    assert event["attributes"] == ["PatientID", "PatientName"]
    told = f"{study.held_text}{event}"
    assert not any(value in told for value in (*JANE.values(), *RICHARD.values()))
    store.release()
    assert store.due() == (1 if sop == "1" else 0), "a new image is routed first"


def test_a_held_study_is_not_routed_until_it_is_released(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", **RICHARD)
    store.clock.move(60)
    with store.database.write() as session:
        index.settle_quiet(session, store.clock.now(), timedelta(seconds=60))
        assert index.to_route(session) == []
    store.release()
    with store.database.read() as session:
        assert [row.study_instance_uid for row in index.to_route(session)] == ["1.2.3"]


def test_a_released_study_may_name_both_patients_from_then_on(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", **RICHARD)
    store.release()
    store.arrive("3", **RICHARD)
    store.arrive("4", **JANE)
    assert store.study().held_at is None
    store.arrive("5", **{**JANE, "PatientID": "4713"})
    assert store.study().held_at is not None


def test_many_such_images_are_told_once(store: Store) -> None:
    store.arrive("1", **JANE)
    for sop in ("2", "3", "4"):
        store.arrive(sop, **RICHARD)
    assert len(store.events("study_held")) == 1


def test_our_own_reports_come_back_with_whatever_patient_the_pacs_gives_them(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", ManufacturerModelName="dicom-node", **RICHARD)
    assert store.study().held_at is None


def test_a_site_may_only_want_to_be_told(store: Store) -> None:
    store.arrive("1", **JANE)
    store.arrive("2", hold=False, **RICHARD)
    assert store.study().held_at is None
    (event,) = store.events("patient_changed")
    assert event["attributes"] == ["PatientID", "PatientName"]


def test_a_discarded_study_neither_runs_nor_sends_and_can_be_taken_up_again(store: Store) -> None:
    store.arrive("1", **JANE)
    store.route("1")
    store.finish(store.claim())  # type: ignore[arg-type]
    store.route("1", pipeline="hip")
    store.arrive("2", **RICHARD)
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        assert held.discard(session, study, store.clock.now(), "admin", "phantom") == 2
    assert store.deliveries() == [DeliveryState.SUPERSEDED]
    assert store.claim() is None
    assert "discarded" in (store.study().unrouted_reason or "")
    store.route("1")
    store.route("1", pipeline="hip")
    assert store.deliveries() == [DeliveryState.PENDING]
    job = store.claim()
    assert job is not None
    assert job.pipeline == "hip"


def test_only_what_is_held_can_be_released(store: Store) -> None:
    store.arrive("1")
    with pytest.raises(NodeError, match="it is not held"):
        store.release()


def test_a_study_that_is_running_cannot_be_discarded(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    assert store.claim()
    with store.database.write() as session, pytest.raises(TransitionError, match="is running"):
        held.discard(session, held.find(session, "1.2.3"), store.clock.now(), "admin", "phantom")


def test_an_image_whose_file_was_purged_is_there_again_when_it_is_sent_again(store: Store) -> None:
    store.arrive("1")
    store.route("1")
    with store.database.write() as session:
        session.scalars(select(Instance)).one().purged_at = store.clock.now()
    assert store.arrive("1") is index.Indexed.RESTORED
    assert store.arrive("1") is index.Indexed.DUPLICATE
    with store.database.read() as session:
        assert session.scalars(select(Instance)).one().purged_at is None
