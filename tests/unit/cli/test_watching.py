"""`alerts` and `audit` on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from sqlalchemy import update

from dicom_node.clock import SystemClock
from dicom_node.config import load_config
from dicom_node.serve.alerting import Alerting
from dicom_node.serve.sealing import Sealer
from dicom_node.store import audit, fitness
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent
from tests.peers.listening import Hook, web_hook
from tests.unit.cli.command import dicom_node
from tests.unit.serve.small_node import write_config

UID = "1.2.826.0.1.3680043.8.498.3"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with web_hook() as hook:
        yield hook


@pytest.fixture
def file(tmp_path: Path, hook: Hook) -> Iterator[Path]:
    """The configuration of a node on which something is wrong, told to nobody yet."""
    channels = {"team": {"webhook": hook.url, "style": "plain"}}
    file = write_config(tmp_path, alerts={"channels": channels})
    config, clock = load_config(file), SystemClock()
    database = Database(config.database_url)
    database.migrate()
    with database.write() as session:
        audit.record(session, clock.now(), "study_settled", study_uid=UID)
        audit.record(
            session, clock.now(), "instances_received", study_uid=UID, peer="XRAY", number=2
        )
        fitness.record(session, "tiny", "1", "", ["differs"], clock.now())
    Alerting(config, database, clock).watch()
    Sealer(config, database, clock).seal_audit_trail()
    yield file
    database.close()


def test_alerts_are_listed_with_what_to_do(file: Path) -> None:
    done = dicom_node("alerts", "list", "--config", file)
    assert "pipeline_disabled" in done.out
    assert "fix: `dicom-node pipelines selftest tiny` says what differs" in done.out
    assert "channel team: 1 waiting" in done.out
    told = dicom_node("alerts", "list", "--json", "--config", file).json
    assert [(item["rule"], item["subject"]) for item in told["alerts"]] == [
        ("pipeline_disabled", "tiny")
    ]


def test_status_shows_them_above_everything(file: Path) -> None:
    done = dicom_node("status", "--config", file)
    assert done.lines[0].startswith("alert: Pipeline tiny did not pass its self-test")
    told = dicom_node("status", "--json", "--config", file).json
    assert told["alerts"][0]["rule"] == "pipeline_disabled"
    assert told["figures"]["alerts"] == {"pipeline_disabled critical": 1}


def test_a_trial_message_goes_to_each_channel(file: Path, hook: Hook) -> None:
    done = dicom_node("alerts", "test", "--config", file)
    assert (done.status, done.out) == (
        0,
        f"ok team: taken (webhook (plain) of 127.0.0.1:{hook.port})\n",
    )
    assert [body["change"] for _, _, body in hook.posts] == ["test"]
    hook.status = 404
    done = dicom_node("alerts", "test", "--channel", "team", "--config", file)
    assert done.status == 1
    assert "HTTP status 404" in done.out
    assert dicom_node("alerts", "test", "--channel", "none", "--config", file).status == 2


def test_a_node_without_channels_says_so(tmp_path: Path) -> None:
    done = dicom_node("alerts", "test", "--config", write_config(tmp_path))
    assert done.status == 2
    assert "node.yaml has none" in done.err


def test_the_trail_is_listed_and_that_is_recorded(file: Path) -> None:
    done = dicom_node("audit", "list", "--kind", "study_settled", "--config", file)
    assert UID in done.out
    assert "instances_received" not in done.out
    told = dicom_node("audit", "list", "--json", "--limit", 1, "--config", file).json
    assert (told[0]["kind"], told[0]["data"]["how"]) == ("audit_log_read", "list")


def test_a_whole_trail_verifies_and_a_changed_one_does_not(file: Path) -> None:
    done = dicom_node("audit", "verify", "--config", file)
    assert done.status == 0
    assert done.lines[-1] == "the audit trail is whole"
    database = Database(load_config(file).database_url)
    with database.write() as session:
        session.execute(
            update(AuditEvent).where(AuditEvent.kind == "study_settled").values(kind="other")
        )
    database.close()
    done = dicom_node("audit", "verify", "--config", file)
    assert done.status == 1
    assert "changed position 1: event 1 (other) is not what was sealed" in done.out
    told = dicom_node("audit", "verify", "--json", "--config", file).json
    assert told["broken"][0]["deviation"] == "changed"
    done = dicom_node("audit", "accept", "--reason", "a test", "--config", file)
    assert "1 deviations accepted" in done.out
    done = dicom_node("audit", "verify", "--config", file)
    assert done.status == 0
    assert "1 deviations were accepted by a person" in done.out


def test_the_trail_is_exported_as_lines_and_as_messages(file: Path) -> None:
    done = dicom_node("audit", "export", "--config", file)
    assert len(done.lines) == 3
    assert '"kind": "study_settled"' in done.lines[0]
    assert dicom_node("audit", "export", "--since", "2999-01-01", "--config", file).out == ""
    (line,) = dicom_node("audit", "export", "--form", "dicom", "--config", file).lines
    assert etree.fromstring(line.encode()).tag == "AuditMessage"
