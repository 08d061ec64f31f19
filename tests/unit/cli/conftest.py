"""A node that has run: one study of each kind of fate, made by the store's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.model.states import JobState, StudyState
from dicom_node.serve import roles
from dicom_node.store import index, jobs, outbox
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.tables import Study
from tests.factories import ManualClock, facts
from tests.unit.serve.small_node import config_in

LEASE = timedelta(seconds=30)

DONE, FAILED, DECLINED, UNWANTED, COMING = (
    f"1.2.826.0.1.3680043.8.498.{number}01234567890123456789012345678" for number in range(1, 6)
)
"""Study Instance UIDs, as long as real ones, by what became of the study."""


class Ran:
    """The folder of a node that has run; jobs 1 to 3 are of the studies in their order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        config = config_in(folder)
        self.config_file = folder / "node.yaml"
        self.data_dir = config.node.data_dir
        self.database = Database(config.database_url)
        self.database.migrate()

    def receive(self, study: str, modality: str = "DX") -> None:
        now = self.clock.now()
        item = facts(study=study, series=f"{study}.1", sop=f"{study}.1.1", Modality=modality)
        with self.database.write() as session:
            index.add_instance(session, index.Arrival(item, "x", study, now), now)

    def settle(self) -> None:
        self.clock.move(60)
        with self.database.write() as session:
            index.settle_quiet(session, self.clock.now(), timedelta(seconds=60))

    def queue(self, study: str, pipeline: str) -> None:
        with self.database.write() as session:
            row = session.query(Study).filter_by(study_instance_uid=study).one()
            new = NewJob(pipeline, "1.0.0", "w", [f"{study}.1.1"], ["pacs"], "route knees")
            jobs.enqueue(session, row, new, self.clock.now())
            row.routed_revision = row.revision
            if row.state == StudyState.RECEIVING:
                row.state = StudyState.SETTLED

    def finish(self, state: JobState, statement: str) -> None:
        with self.database.write() as session:
            job = jobs.claim(session, "worker-0@here", self.clock.now(), LEASE)
            assert job is not None
            self.clock.move(7)
            reports = [
                NewReport(kind, "1.2.3", f"2.25.{job.id}{n}", f"{job.id}/{n}.dcm", "h")
                for n, kind in enumerate(("SR", "SC"))
            ]
            result = JobResult(state, reports, [("statement", {"text": statement})])
            assert jobs.finish(session, job.id, "worker-0@here", result, self.clock.now())

    def fail(self) -> None:
        error = {
            "what": "pipeline hip",
            "why": "its weights [/opt/w] cannot be read",
            "fix": "restore the file",
        }
        with self.database.write() as session:
            job = jobs.claim(session, "worker-0@here", self.clock.now(), LEASE)
            assert job is not None
            jobs.fail(session, job.id, "worker-0@here", error, self.clock.now(), None)


@pytest.fixture(autouse=True)
def quiet_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command leaves the logging and the signals of the test process as they are."""
    monkeypatch.setattr(roles, "set_up_logging", lambda _: None)
    monkeypatch.setattr(roles, "stop_with_parent", lambda _: None)
    monkeypatch.setattr(roles, "on_hangup", lambda _: None)


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Ran]:
    node = Ran(tmp_path)
    for study in (DONE, FAILED, DECLINED):
        node.receive(study)
    node.receive(UNWANTED, "MR")
    node.settle()
    node.queue(DONE, "knee")
    node.queue(FAILED, "hip")
    node.queue(DECLINED, "knee")
    node.finish(JobState.DONE, "Right knee: grade 2.")
    node.fail()
    node.finish(JobState.NOT_EVALUATED, "Not evaluated: not an AP view.")
    now = node.clock.now()
    with node.database.write() as session:
        study = session.query(Study).filter_by(study_instance_uid=UNWANTED).one()
        study.routed_revision = study.revision
        study.unrouted_reason = "“knees”: modality is MR, not CR or DX | “hips”: modality is MR"
        # deliveries: 1, 2 of the first job, 3, 4 of the third
        outbox.mark_sent(session, 1, "status 0x0000 (Success)", now)
        outbox.mark_failed(session, 2, "status 0xA700 (Failure): [disk full]", now)
        again = now + timedelta(minutes=15)
        outbox.mark_again(session, 3, "no association: the connection failed", now, again)
    node.receive(COMING)
    yield node
    node.database.close()
