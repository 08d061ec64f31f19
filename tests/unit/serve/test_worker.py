"""The worker: every job ends in objects or in a reason, and made twice they are the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dicom_node.errors import PipelineError, SpoolError
from dicom_node.inference.files import read_header
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.model.findings import ImageReference, NotEvaluated
from dicom_node.model.own_codes import NO_SUITABLE_IMAGE, WRONG_VIEW
from dicom_node.model.pipeline import PipelineSpec, ResultObject
from dicom_node.model.states import JobState, StudyState
from dicom_node.results import report
from dicom_node.results.derived import UnfitSourceError
from dicom_node.serve import products
from dicom_node.serve.worker import Worker, WorkerSettings
from dicom_node.store import index, jobs, losses, outbox, overview
from dicom_node.store.database import Database
from dicom_node.store.jobs import NewJob
from dicom_node.store.spool import Spool
from dicom_node.store.tables import FindingRow, Instance, Job, Report, Study
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock, radiograph
from tests.peers.ports import wait_for
from tests.unit.results import samples
from tests.unit.serve.small_node import all_jobs, events, put_into_inbox

LEASE = timedelta(seconds=30)


class Pipelines:
    """An executor whose pipeline is a function of the job."""

    def __init__(self, run: Callable[[JobInput], Outcome]) -> None:
        self._run = run
        self.ran: list[JobInput] = []

    def spec(self, name: str) -> PipelineSpec:
        return samples.SPEC

    def run(self, name: str, job: JobInput) -> Outcome:
        self.ran.append(job)
        return self._run(job)


def grades(job: JobInput) -> Outcome:
    """Find a knee in the first image, as a pipeline does."""
    header = read_header(job.files[0])
    subject = samples.one_knee(header)
    found = samples.findings(header, [samples.kl(subject)])
    picture = {subject.images[0].key: np.full((64, 48), 90, np.uint8)}
    return Outcome(replace(found, started=job.started), picture, {"device": "cpu"})


def declines(job: JobInput) -> Outcome:
    """Say that nothing could be evaluated, with routing's reason if there is one."""
    facts = job.facts[0]
    image = ImageReference(facts.sop_class_uid, facts.sop_instance_uid, facts.series_instance_uid)
    subject = replace(samples.one_knee(read_header(job.files[0])), images=(image,))
    reason = job.rejection.reason if job.rejection else WRONG_VIEW
    text = job.rejection.text if job.rejection else "the image is not an AP view of the knee"
    found = samples.findings(read_header(job.files[0]), [NotEvaluated(subject, reason, text)])
    picture = {image.key: np.full((64, 48), 90, np.uint8)}
    return Outcome(replace(found, started=job.started, statement=text), picture)


def raises(error: Exception) -> Callable[[JobInput], Outcome]:
    def run(_: JobInput) -> Outcome:
        raise error

    return run


class Node:
    """A study in the spool, a job on it, and workers to run it."""

    def __init__(self, folder: Path, database: Database, spool: Spool, clock: ManualClock) -> None:
        self.reports = folder / "data" / "reports"
        self.database, self.spool, self.clock = database, spool, clock

    def receive(self, *images: FileDataset) -> None:
        for image in images:
            put_into_inbox(self.spool, image)
        Indexer(self.database, self.spool, self.clock).index_waiting()

    def queue(self, *inputs: str, **changes: Any) -> None:
        with self.database.write() as session:
            study = session.scalars(select(Study)).one()
            if study.state == StudyState.RECEIVING:
                study.state = StudyState.SETTLED
            facts = {"version": "1", "weights_sha256": "w", "peers": ["pacs"], **changes}
            new = NewJob("tiny", inputs=list(inputs), reason="route knees", **facts)
            assert jobs.enqueue(session, study, new, self.clock.now()) is not None

    def worker(
        self, run: Callable[[JobInput], Outcome], *, attempts: int = 2, lease: timedelta = LEASE
    ) -> Worker:
        self.executor = Pipelines(run)
        return Worker(
            WorkerSettings("worker-0@here", lease, attempts, timedelta(seconds=5)),
            database=self.database,
            executor=self.executor,
            spool_dir=self.spool.root,
            reports_dir=self.reports,
            clock=self.clock,
        )

    def reports_made(self) -> dict[str, tuple[str, bytes]]:
        """Kind and bytes of each report by SOP Instance UID."""
        with self.database.read() as session:
            rows = session.scalars(select(Report))
            return {
                r.sop_instance_uid: (r.kind, (self.reports / r.path).read_bytes()) for r in rows
            }

    def all_sent(self) -> None:
        """Every peer has what is in the outbox."""
        with self.database.write() as session:
            for delivery in outbox.due(session, "pacs", self.clock.now()):
                outbox.mark_sent(session, delivery.id, "status 0x0000", self.clock.now())

    def due(self) -> int:
        with self.database.read() as session:
            return len(outbox.due(session, "pacs", self.clock.now()))


@pytest.fixture
def image() -> FileDataset:
    return radiograph(study="1.2.3")


@pytest.fixture
def node(
    tmp_path: Path, database: Database, spool: Spool, clock: ManualClock, image: FileDataset
) -> Node:
    """A node with one image and a job on it."""
    node = Node(tmp_path, database, spool, clock)
    node.receive(image)
    node.queue(str(image.SOPInstanceUID))
    return node


def test_a_job_ends_with_an_sr_and_an_sc_on_disk_and_in_the_outbox(
    node: Node, database: Database
) -> None:
    worker = node.worker(grades)
    assert worker.run_one()
    assert not worker.run_one()
    (job,) = all_jobs(database)
    assert (job.state, job.attempts) == (JobState.DONE, 1)
    seconds = job.run_record.pop("seconds")
    assert job.run_record == {"device": "cpu", "version": samples.ALGORITHM.version}
    assert {"results", "store"} <= seconds.keys()
    made = node.reports_made()
    assert sorted(kind for kind, _ in made.values()) == ["SC", "SR"]
    assert node.due() == 2
    with database.read() as session:
        rows = session.scalars(select(FindingRow.kind).order_by(FindingRow.id)).all()
    assert rows == ["statement", "classification"]
    (told,) = events(database, "job_finished")
    assert sorted(told["reports"]) == sorted(made)


def test_a_job_run_again_makes_the_same_bytes_under_the_same_uids(
    node: Node, database: Database, clock: ManualClock
) -> None:
    node.worker(grades).run_one()
    first = node.reports_made()
    for file in node.reports.rglob("*.dcm"):
        file.unlink()
    clock.move(86_400)
    with database.write() as session:
        jobs.retry(session, session.get_one(Job, 1), clock.now())
    clock.move(60)
    node.worker(grades).run_one()
    assert node.reports_made() == first
    assert node.due() == 2


def test_a_job_taken_over_from_a_dead_worker_makes_what_the_dead_one_would_have_made(
    node: Node, database: Database, clock: ManualClock
) -> None:
    began = clock.now()
    with database.write() as session:
        assert jobs.claim(session, "worker-0@here", began, LEASE) is not None
    clock.move(3600)
    worker = node.worker(grades)
    worker.take_back()
    assert worker.run_one()
    assert node.executor.ran[0].started == began
    assert all_jobs(database)[0].attempts == 2


def test_what_was_left_out_is_kept_with_the_job_and_told(
    node: Node, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = samples.SPEC.model_copy(update={"objects": [ResultObject.PRESENTATION_STATE]})
    monkeypatch.setattr(Pipelines, "spec", lambda *_: spec)

    def of_a_broken_source(header: Any) -> None:
        raise UnfitSourceError("a presentation state", "no window", "take it out")

    monkeypatch.setattr(report, "build_presentation_states", of_a_broken_source)
    node.worker(grades).run_one()
    (job,) = all_jobs(database)
    assert job.run_record["left_out"] == [{"kind": "PR", "why": "no window"}]
    assert events(database, "job_finished")[0]["left_out"] == job.run_record["left_out"]
    with database.read() as session:
        (line,) = overview.jobs(session)
    assert line.left_out == ("PR: no window",)
    assert sorted(kind for kind, _ in line.reports) == ["SC", "SR"]


def documents(node: Node, database: Database) -> list[tuple[str, str, list[str]]]:
    """(series, SR instance, instances that it replaces) of each job, oldest first."""
    with database.read() as session:
        paths = session.scalars(
            select(Report.path).where(Report.kind == "SR").order_by(Report.job_id, Report.id)
        ).all()
    made = [dcmread(node.reports / path) for path in paths]
    return [
        (
            sr.SeriesInstanceUID,
            sr.SOPInstanceUID,
            [
                f"{series.SeriesInstanceUID}/{item.ReferencedSOPInstanceUID}"
                for study in sr.get("PredecessorDocumentsSequence", [])
                for series in study.ReferencedSeriesSequence
                for item in series.ReferencedSOPSequence
            ],
        )
        for sr in made
    ]


def as_version(version: str) -> Callable[[JobInput], Outcome]:
    """The same pipeline in a version."""

    def run(job: JobInput) -> Outcome:
        outcome = grades(job)
        algorithm = replace(outcome.findings.algorithm, version=version)
        return replace(outcome, findings=replace(outcome.findings, algorithm=algorithm))

    return run


def test_a_new_report_replaces_the_last_one_of_the_same_pipeline(
    node: Node, database: Database, image: FileDataset
) -> None:
    late = radiograph(study="1.2.3")
    node.worker(as_version("0")).run_one()
    node.all_sent()
    node.receive(late)
    with database.write() as session:
        session.scalars(select(Study)).one().state = StudyState.SETTLED
    for version in ("1", "2", "3"):
        node.queue(str(image.SOPInstanceUID), str(late.SOPInstanceUID), version=version)
        assert node.worker(as_version(version)).run_one()
        if version != "2":
            node.all_sent()
    first, second, third, fourth = documents(node, database)
    assert first[2] == []
    assert second[2] == [f"{first[0]}/{first[1]}"]
    assert third[2] == [f"{second[0]}/{second[1]}"]
    # the third was withdrawn before any peer had it
    assert fourth[2] == [f"{second[0]}/{second[1]}"]
    assert [event.get("replaces") for event in events(database, "job_finished")] == [
        None,
        first[1],
        second[1],
        second[1],
    ]
    said = dcmread(next(node.reports.rglob(f"{second[1]}.dcm")))
    assert [str(i.TextValue) for i in said.ContentSequence if i.ValueType == "TEXT"][-1] == (
        "Replaces the earlier AI result of version 0, which was made before 1 of these images came."
    )


def test_an_earlier_job_run_again_after_a_later_one_makes_its_own_bytes_again(
    node: Node, database: Database, clock: ManualClock, image: FileDataset
) -> None:
    worker = node.worker(grades)
    worker.run_one()
    node.all_sent()
    node.queue(str(image.SOPInstanceUID), version="2")
    worker.run_one()
    files = {file: file.read_bytes() for file in node.reports.rglob("*.dcm")}
    assert len(files) == 8  # of each job an SC and the three forms of its SR
    for file in files:
        file.unlink()
    with database.write() as session:
        for job in session.scalars(select(Job)):
            job.superseded_by = None
            jobs.retry(session, job, clock.now())
    assert worker.run_one()
    assert worker.run_one()
    assert {file: file.read_bytes() for file in node.reports.rglob("*.dcm")} == files
    assert [len(replaced) for _, _, replaced in documents(node, database)] == [0, 1]


def test_jobs_of_one_pipeline_on_one_study_run_one_after_another(
    node: Node, database: Database, clock: ManualClock, image: FileDataset
) -> None:
    uid = str(image.SOPInstanceUID)
    with database.write() as session:
        assert jobs.claim(session, "worker-1@here", clock.now(), LEASE) is not None
    node.queue(uid, version="2")
    assert not node.worker(grades).run_one()
    with database.write() as session:
        jobs.finish(session, 1, "worker-1@here", jobs.JobResult(JobState.DONE, [], []), clock.now())
    assert node.worker(grades).run_one()


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


def test_what_is_not_evaluated_has_its_sr_and_sc_too(node: Node, database: Database) -> None:
    assert node.worker(declines).run_one()
    (job,) = all_jobs(database)
    assert job.state == JobState.NOT_EVALUATED
    made = node.reports_made()
    assert sorted(kind for kind, _ in made.values()) == ["SC", "SR"]
    assert node.due() == 2


def test_a_job_that_routing_rejected_brings_its_reason_to_the_pipeline(
    tmp_path: Path, database: Database, spool: Spool, clock: ManualClock, image: FileDataset
) -> None:
    node = Node(tmp_path, database, spool, clock)
    node.receive(image)
    reason = {"value": NO_SUITABLE_IMAGE.value, "scheme": "99DCMNODE", "meaning": "No image"}
    node.queue(str(image.SOPInstanceUID), rejection={"reason": reason, "text": "no AP view"})
    node.worker(declines).run_one()
    rejection = node.executor.ran[0].rejection
    assert rejection is not None
    assert (rejection.reason.value, rejection.text) == (NO_SUITABLE_IMAGE.value, "no AP view")
    assert all_jobs(database)[0].state == JobState.NOT_EVALUATED


@pytest.mark.parametrize(
    ("error", "what", "why", "fix"),
    [
        (
            PipelineError("pipeline tiny", "its output is not finite", "check the weights"),
            "pipeline tiny",
            "its output is not finite",
            "check the weights",
        ),
        (
            ValueError("Doe^Jane"),
            "pipeline tiny",
            "ValueError at",
            "dicom-node pipelines check tiny",
        ),
    ],
)
def test_a_pipeline_that_raises_is_tried_again_later_then_failed_with_what_why_and_fix(
    node: Node,
    database: Database,
    clock: ManualClock,
    error: Exception,
    what: str,
    why: str,
    fix: str,
) -> None:
    worker = node.worker(raises(error), attempts=2)
    with capture_logs() as logs:
        assert worker.run_one()
        assert all_jobs(database)[0].state == JobState.QUEUED
        assert not worker.run_one()  # not before its time
        clock.move(5)
        assert worker.run_one()
    (job,) = all_jobs(database)
    assert (job.state, job.attempts) == (JobState.FAILED, 2)
    assert job.error["what"] == what
    assert why in job.error["why"]
    assert fix in job.error["fix"]
    assert [len(events(database, kind)) for kind in ("job_attempt_failed", "job_failed")] == [1, 1]
    assert events(database, "job_failed")[0]["why"] == job.error["why"]
    assert "Doe" not in f"{logs}{job.error}{events(database, 'job_failed')}"
    assert node.reports_made() == {}
    assert not worker.run_one()


def test_a_full_disk_is_not_the_job_s_fault(
    node: Node, database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = node.worker(grades, attempts=1)
    with monkeypatch.context() as full:

        def refuses(*_: object) -> None:
            raise SpoolError("reports", "No space left on device", "free space")

        full.setattr(products, "write_durably", refuses)
        for _ in range(3):
            assert worker.run_one()
            (job,) = all_jobs(database)
            assert (job.state, job.attempts) == (JobState.QUEUED, 0)
            assert job.error is not None
            assert job.error["reason"] == "disk"
            clock.move(30)
    assert worker.run_one()
    assert all_jobs(database)[0].state == JobState.DONE
    assert len(events(database, "job_attempt_failed")) == 3
    assert node.reports_made()


def test_a_failed_job_leaves_the_worker_fit_for_the_next(
    node: Node, image: FileDataset, database: Database
) -> None:
    node.worker(raises(MemoryError()), attempts=1).run_one()
    node.queue(str(image.SOPInstanceUID), rejection={"reason": {}, "text": ""})
    with database.write() as session:
        session.get_one(Job, 2).rejection = None
    node.worker(grades).run_one()
    assert [job.state for job in all_jobs(database)] == [JobState.FAILED, JobState.DONE]


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


def test_a_job_whose_image_is_no_longer_in_the_index_fails_and_says_so(
    node: Node, database: Database
) -> None:
    with database.write() as session:
        session.execute(delete(Instance))
    node.worker(grades, attempts=1).run_one()
    (job,) = all_jobs(database)
    assert job.state == JobState.FAILED
    assert job.error["why"] == "1 of its 1 images are not in the index"
    assert job.error["fix"] == "send the study again"


def test_a_file_that_is_gone_from_the_spool_fails_the_job_and_says_which(
    node: Node, database: Database, image: FileDataset
) -> None:
    for file in node.spool.root.glob("studies/*/*/*.dcm"):
        file.unlink()

    def ignores_it(job: JobInput) -> Outcome:
        header = radiograph(study="1.2.3")
        subject = samples.one_knee(header)
        return Outcome(samples.findings(header, [samples.kl(subject)]), {})

    node.worker(ignores_it, attempts=1).run_one()
    (job,) = all_jobs(database)
    assert job.state == JobState.FAILED
    assert job.error["what"] == f"file {image.SOPInstanceUID}.dcm"


def test_a_report_that_cannot_be_written_is_tried_again(
    node: Node, database: Database, clock: ManualClock
) -> None:
    node.reports.parent.mkdir(exist_ok=True)
    node.reports.write_text("a file where the folder should be")
    worker = node.worker(grades)
    worker.run_one()
    (job,) = all_jobs(database)
    assert job.state == JobState.QUEUED
    assert "check its space and rights" in job.error["fix"]
    node.reports.unlink()
    clock.move(30)
    worker.run_one()
    assert all_jobs(database)[0].state == JobState.DONE


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


def test_the_objects_are_in_the_patient_s_study(node: Node) -> None:
    node.worker(grades).run_one()
    for file in node.reports.rglob("*.dcm"):
        assert dcmread(file, stop_before_pixels=True).StudyInstanceUID == "1.2.3"
        assert file.parent.name == "1.2.3"


def test_the_index_keeps_what_the_worker_needs_of_each_image(
    node: Node, image: FileDataset
) -> None:
    node.worker(grades).run_one()
    (facts,) = node.executor.ran[0].facts
    assert facts.sop_instance_uid == image.SOPInstanceUID
    assert facts.study_instance_uid == "1.2.3"
    assert facts.attributes["BodyPartExamined"] == "KNEE"
    with node.database.read() as session:
        row = session.scalars(select(Instance)).one()
        assert index.facts_of_row(row, "1.2.3") == facts
