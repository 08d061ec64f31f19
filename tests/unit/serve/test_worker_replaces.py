"""A later result of a pipeline replaces the earlier one, in the order that the jobs say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pydicom import dcmread
from pydicom.dataset import FileDataset
from sqlalchemy import select

from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.model.states import JobState, StudyState
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.tables import Job, Report, Study
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import events
from tests.unit.serve.worker_node import LEASE, Node, grades


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
