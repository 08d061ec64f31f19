"""The worker: every job ends in objects, and made twice they are the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from sqlalchemy import select

from dicom_node.model.own_codes import NO_SUITABLE_IMAGE
from dicom_node.model.pipeline import ResultObject
from dicom_node.model.states import JobState
from dicom_node.results import report
from dicom_node.results.derived import UnfitSourceError
from dicom_node.store import index, jobs, overview
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.tables import FindingRow, Instance, Job
from tests.factories import ManualClock
from tests.unit.results import samples
from tests.unit.serve.small_node import all_jobs, events
from tests.unit.serve.worker_node import LEASE, Node, Pipelines, declines, grades


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
