"""Jobs that cost a worker: taken back with the reason, reported if wanted, and never twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from structlog.testing import capture_logs

from dicom_node.errors import NodeError, PipelineError
from dicom_node.model.findings import Algorithm
from dicom_node.serve.worker import Worker, WorkerSettings
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.tables import Job
from tests.factories import ManualClock, radiograph
from tests.unit.results import samples
from tests.unit.serve.small_node import all_jobs, events
from tests.unit.serve.worker_node import LEASE, Node, Pipelines, grades, raises

WAIT = timedelta(seconds=5)


class Site(Node):
    """A node whose workers have limits."""

    def limited(self, run: object, **settings: object) -> Worker:
        self.executor = Pipelines(run)  # type: ignore[arg-type]
        self.limits: list[float] = []
        header = radiograph(study="1.2.3")
        self.executor.algorithm = lambda _: self._algorithm(header)  # type: ignore[attr-defined]

        @contextmanager
        def limited(limit: timedelta) -> Iterator[None]:
            self.limits.append(limit.total_seconds())
            yield

        return Worker(
            WorkerSettings("worker-0@here", LEASE, 2, WAIT, **settings),  # type: ignore[arg-type]
            database=self.database,
            executor=self.executor,
            spool_dir=self.spool.root,
            reports_dir=self.reports,
            clock=self.clock,
            limited=limited,
        )

    def _algorithm(self, header: FileDataset) -> Algorithm:
        return samples.findings(header, [samples.kl(samples.one_knee(header))]).algorithm

    def modalities(self) -> dict[str, str]:
        """Modality of each object that was made, by SOP Instance UID."""
        found = {}
        for file in self.reports.rglob("*.dcm"):
            header = dcmread(file, stop_before_pixels=True)
            found[str(header.SOPInstanceUID)] = str(header.Modality)
        return found


@pytest.fixture
def site(tmp_path: Path, database: Database, spool: Spool, clock: ManualClock) -> Site:
    image = radiograph(study="1.2.3")
    site = Site(tmp_path, database, spool, clock)
    site.receive(image)
    site.queue(str(image.SOPInstanceUID))
    return site


def test_a_job_runs_under_its_pipeline_s_limit(site: Site) -> None:
    limits = {"tiny": timedelta(seconds=7)}
    site.limited(grades, time_limit=timedelta(seconds=99), time_limits=limits).run_one()
    assert site.limits == [7]
    assert WorkerSettings("w", LEASE, 2, WAIT).limit_of("other") == timedelta(minutes=10)


def test_the_next_worker_takes_the_job_back_with_the_reason_of_the_last_one_s_end(
    site: Site, clock: ManualClock
) -> None:
    worker = site.limited(grades, time_limit=timedelta(seconds=99), quarantine_after=9)
    for state in ("queued", "failed"):
        clock.move(60)
        with site.database.write() as session:
            assert jobs.claim(session, "worker-0@here", clock.now(), LEASE)
        with capture_logs() as logs:
            worker.take_back(-signal.SIGALRM)
        assert [entry["event"] for entry in logs] == ["jobs_taken_back"]
        (job,) = all_jobs(site.database)
        assert job.state == state
    assert job.error is not None
    assert job.error["reason"] == "time_limit"
    assert job.error["why"] == "it ran longer than its limit of 99 s (in each of 2 tries)"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: Doe^Jane")],
)
def test_a_worker_whose_memory_was_used_up_ends_after_the_job_is_recorded(
    site: Site, error: Exception
) -> None:
    worker = site.limited(raises(error))
    with pytest.raises(NodeError, match="used up its memory"):
        worker.run(threading.Event(), timedelta(seconds=0.01))
    (job,) = all_jobs(site.database)
    assert (job.state, job.attempts) == ("queued", 1)
    assert job.error is not None
    assert job.error["reason"] == "out_of_memory"
    assert "inference.max_memory_mb" in job.error["fix"]
    assert "Doe" not in str(job.error)


def test_a_pipeline_that_ends_the_process_only_fails_its_job(site: Site) -> None:
    assert site.limited(raises(SystemExit(3))).run_one()  # type: ignore[arg-type]
    (job,) = all_jobs(site.database)
    assert job.error is not None
    assert "SystemExit" in job.error["why"]


def fail_for_good(site: Site, **settings: object) -> Worker:
    nonsense = PipelineError("output kl", "it is not one probability for each of 5 labels", "mend")
    worker = site.limited(raises(nonsense), **settings)
    worker.run_one()
    site.clock.move(60)
    worker.run_one()
    assert all_jobs(site.database)[0].state == "failed"
    return worker


def test_a_job_that_failed_sends_nothing(site: Site) -> None:
    worker = fail_for_good(site)
    assert not worker.run_one()
    assert (site.modalities(), site.due()) == ({}, 0)


def test_where_it_is_wanted_a_failed_job_sends_the_word_that_it_failed_and_nothing_else(
    site: Site,
) -> None:
    worker = fail_for_good(site, report_failures=True)
    assert worker.run_one()
    assert not worker.run_one(), "once"
    assert sorted(site.modalities().values())[0] == "OT"
    assert site.due() == 2
    sr = next(
        dcmread(file) for file in site.reports.rglob("*.dcm") if "PixelData" not in dcmread(file)
    )
    texts = [str(item.value) for item in sr.iterall() if item.keyword == "TextValue"]
    assert "Not evaluated: processing failed: the program reported an error (job 1)." in texts
    codes = {str(item.value) for item in sr.iterall() if item.keyword == "CodeValue"}
    assert "process-failed" in codes
    assert not {code for code in codes if code.startswith("kl-")}
    (told,) = events(site.database, "job_failure_reported")
    assert len(told["reports"]) == 2


def test_a_job_that_succeeds_after_all_makes_other_objects_than_the_word_that_it_failed(
    site: Site,
) -> None:
    fail_for_good(site, report_failures=True).run_one()
    failed = set(site.modalities())
    with site.database.write() as session:
        jobs.retry(session, session.get_one(Job, 1), site.clock.now())
    assert site.limited(grades, report_failures=True).run_one()
    assert all_jobs(site.database)[0].state == "done"
    assert failed
    assert failed < set(site.modalities())
    assert site.due() == 4


def test_the_word_that_a_job_failed_is_tried_once_and_its_own_failure_told(site: Site) -> None:
    worker = fail_for_good(site, report_failures=True)
    for file in site.spool.root.glob("studies/*/*/*.dcm"):
        file.unlink()
    with capture_logs() as logs:
        assert worker.run_one()
        assert not worker.run_one()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "job_failure_not_reported"
    ]
    (told,) = events(site.database, "job_failure_not_reported")
    assert told["why"]
    assert site.due() == 0


def test_a_job_whose_images_were_purged_says_so(site: Site) -> None:
    with site.database.write() as session:
        for row in jobs.instances_of(session, session.get_one(Job, 1)):
            row.purged_at = site.clock.now()
    site.limited(grades).run_one()
    (job,) = all_jobs(site.database)
    assert job.error is not None
    assert job.error["why"] == "1 of its 1 images were purged after they were finished"
