"""A job that cannot end in objects ends in a reason; what is not its fault is tried again."""

from __future__ import annotations

import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import delete
from structlog.testing import capture_logs

from dicom_node.errors import PipelineError, SpoolError
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.model.states import JobState
from dicom_node.serve import products
from dicom_node.store.database import Database
from dicom_node.store.tables import Instance, Job
from tests.factories import ManualClock, radiograph
from tests.unit.results import samples
from tests.unit.serve.small_node import all_jobs, events
from tests.unit.serve.worker_node import Node, grades, raises


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
    # it may last for days: told once
    assert len(events(database, "job_attempt_failed")) == 1
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
