"""A job whose result nobody wants any more ends while it runs, and frees its worker."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.model.states import JobState, StudyState
from dicom_node.serve.stopping import Stoppable, UnwantedError
from dicom_node.store.database import Database
from dicom_node.store.tables import Study
from tests.factories import radiograph
from tests.unit.serve.small_node import all_jobs, events
from tests.unit.serve.worker_node import Node, grades

SOON = timedelta(seconds=0.3)


@pytest.fixture(autouse=True)
def _signal_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_job_that_another_replaces_is_stopped_while_it_runs(
    node: Node, database: Database, image: FileDataset
) -> None:
    late = radiograph(study="1.2.3")
    went_on = threading.Event()

    def runs_until_it_is_replaced(job: JobInput) -> Outcome:
        if len(job.files) == 2:
            return grades(job)
        node.receive(late)
        with database.write() as session:
            session.scalars(select(Study)).one().state = StudyState.SETTLED
        node.queue(str(image.SOPInstanceUID), str(late.SOPInstanceUID))
        try:
            # as a pipeline that is in the midst of its work, and handles its own errors
            went_on.wait(60)
        except Exception:  # noqa: BLE001 - not to be caught by it
            went_on.set()
        return grades(job)

    worker = node.worker(runs_until_it_is_replaced, lease=SOON)
    with capture_logs() as logs:
        assert worker.run_one()
    assert not went_on.is_set()
    stopped, waiting = all_jobs(database)
    assert (stopped.state, waiting.state) == (JobState.FAILED, JobState.QUEUED)
    assert stopped.superseded_by == waiting.id
    assert stopped.error is not None
    assert stopped.error["reason"] == "outdated"
    assert [event["by"] for event in events(database, "job_stopped")] == [waiting.id]
    assert [entry["event"] for entry in logs if entry["event"].startswith("job_")] == [
        "job_started",
        "job_claim_lost",
        "job_stopped",
    ]
    assert node.reports_made() == {}
    # the worker is free for the job that has taken its place
    assert worker.run_one()
    assert all_jobs(database)[1].state == JobState.DONE


def test_what_is_stopped_before_it_begins_does_not_begin() -> None:
    running = Stoppable()
    running.stop()
    with pytest.raises(UnwantedError), running:
        pytest.fail("it began")


def test_what_is_stopped_too_late_is_not_disturbed() -> None:
    running = Stoppable()
    with running:
        pass
    running.stop()
    # a signal that was on its way
    signal.raise_signal(signal.SIGUSR1)


def test_in_a_thread_what_is_stopped_runs_to_its_end() -> None:
    ended = threading.Event()

    def run() -> None:
        running = Stoppable()
        with running:
            running.stop()
            ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert ended.is_set()
