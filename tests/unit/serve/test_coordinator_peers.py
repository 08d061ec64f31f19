"""Reports for a peer that no route names any more are sent all the same, or fail loudly."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.model.states import JobState
from dicom_node.serve.coordinator import Coordinator
from dicom_node.store import jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.spool import Spool
from dicom_node.store.tables import AuditEvent, Delivery, Study
from tests.factories import ManualClock
from tests.unit.serve.small_node import bundle, config_in


@pytest.fixture
def waiting(database: Database, clock: ManualClock) -> Database:
    """A report waits for the peers `old` and `gone`."""
    now = clock.now()
    with database.write() as session:
        study = Study(
            study_instance_uid="1.2.3",
            state="settled",
            first_instance_at=now,
            last_instance_at=now,
        )
        session.add(study)
        session.flush()
        new = NewJob("kl", "1", "w", ["1.2.3.1.1"], ["old", "gone"], "r")
        jobs.enqueue(session, study, new, now)
        assert jobs.claim(session, "w0", now, timedelta(seconds=9))
        report = NewReport("SR", "1.2.840.10008.5.1.4.1.1.88.33", "2.25.1", "s/1.dcm", "h")
        jobs.finish(session, 1, "w0", JobResult(JobState.DONE, [report], []), now)
    return database


def test_a_peer_without_a_route_gets_what_waits_and_one_that_is_gone_fails(
    tmp_path: Path, waiting: Database, spool: Spool, clock: ManualClock
) -> None:
    here: dict[str, Any] = {"host": "127.0.0.1", "port": 104}
    peers = {name: {**here, "ae_title": name.upper()} for name in ("pacs", "old", "xray")}
    config = config_in(tmp_path, peers=peers)
    with capture_logs() as logs:
        node = Coordinator(config, {"tiny": bundle(tmp_path)}, waiting, spool, clock)
    assert [thread.name for thread in node._outbox._threads] == ["sender-old", "sender-pacs"]
    with waiting.read() as session:
        rows = {row.peer: row for row in session.query(Delivery)}
        assert (rows["old"].state, rows["gone"].state) == ("pending", "failed")
        assert rows["gone"].answer == "node.yaml has no such peer any more"
        assert session.query(AuditEvent).filter_by(kind="report_failed").count() == 1
    (told,) = [entry for entry in logs if entry["event"] == "report_failed"]
    assert (told["peer"], told["log_level"]) == ("gone", "error")
