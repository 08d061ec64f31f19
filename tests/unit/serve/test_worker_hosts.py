"""A job whose images another host holds: it waits while that host is away, and is not blamed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from dicom_node.errors import HostAwayError
from dicom_node.hosts.files import Files
from dicom_node.model.states import JobState
from dicom_node.serve.worker import Worker, WorkerSettings
from dicom_node.store.kept import KeptFile, KeptKind
from dicom_node.store.tables import Job, Report
from tests.unit.serve.small_node import events
from tests.unit.serve.worker_node import LEASE, Node, Pipelines, grades


class Remote(Files):
    """Files of a host that is away until the test says that it is back."""

    def __init__(self, root: Path) -> None:
        super().__init__({KeptKind.INSTANCE: root})
        self.is_back = False
        self.users: set[object] = set()

    def path(self, kept: KeptFile, user: object) -> Path:
        if not self.is_back:
            raise HostAwayError("host rx", "it holds files and does not answer", "start it")
        self.users.add(user)
        return super().path(kept, user)

    def release(self, user: object) -> None:
        self.users.discard(user)


def worker(node: Node, files: Files) -> Worker:
    return Worker(
        WorkerSettings("worker-0@ai", LEASE, 2, timedelta(seconds=5)),
        database=node.database,
        executor=Pipelines(grades),
        spool_dir=Path("/nowhere"),
        reports_dir=node.reports,
        clock=node.clock,
        files=files,
        host="ai",
    )


def the_job(node: Node) -> Job:
    with node.database.read() as session:
        return session.query(Job).one()


def test_a_job_waits_for_a_host_and_goes_on_when_it_is_back(node: Node) -> None:
    files = Remote(node.spool.root)
    one = worker(node, files)
    for _ in range(5):
        assert one.run_one()
        job = the_job(node)
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        assert job.error is not None
        assert (job.error["what"], job.error["reason"]) == ("host rx", "host")
        node.clock.move(30)
    # told once, however long it takes
    assert len(events(node.database, "job_attempt_failed")) == 1
    files.is_back = True
    assert one.run_one()
    job = the_job(node)
    assert (job.state, job.attempts, job.error) == (JobState.DONE, 1, None)
    assert files.users == set()
    with node.database.read() as session:
        assert {report.host for report in session.query(Report)} == {"ai"}
