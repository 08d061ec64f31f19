"""`/metrics`, `/healthz` and `/readyz`; and what deploy/ asks Prometheus for is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.model.alerts import AlertState
from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.serve.locks import hold
from dicom_node.store import audit, looks
from dicom_node.store.tables import Delivery, Job, Study
from dicom_node.store.watch_tables import REPOSITORY, Alert, AlertMessage, AuditMark, AuditSeal
from tests.factories import report_row
from tests.unit.web.conftest import WebSite

DEPLOY = Path(__file__).parents[3] / "deploy"
UID = "1.2.826.0.1.3680043.8.498.9"


def fill(site: WebSite) -> None:
    """One of everything that is counted."""
    now = site.clock.now()
    with site.database.write() as session:
        study = Study(
            study_instance_uid=UID,
            state=StudyState.SETTLED,
            first_instance_at=now,
            last_instance_at=now,
        )
        session.add(study)
        session.flush()
        ended = [(JobState.DONE, seconds) for seconds in range(1, 21)]
        some = [(JobState.QUEUED, 0), (JobState.FAILED, 1), *ended]
        for number, (state, took) in enumerate(some):
            job = Job(
                study_id=study.id,
                pipeline="tiny",
                version="1",
                input_key=str(number),
                state=state,
                inputs=[],
                peers=[],
                reason="",
                queued_at=now - timedelta(seconds=100),
                started_at=now - timedelta(seconds=took) if took else None,
                finished_at=now if took else None,
            )
            session.add(job)
        session.flush()
        report = report_row(session, job.id, now)
        session.add(
            Delivery(
                report_id=report.id,
                peer="pacs",
                state=DeliveryState.PENDING,
                queued_at=now - timedelta(seconds=40),
                next_attempt_at=now,
            )
        )
        audit.record(session, now, "association_rejected", peer="EVIL", times=12)
        looks.note_look(session, "pacs", "no association", now)
        fields = {"severity": "critical", "text": "", "fix": "", "since": now}
        session.add(Alert(rule="peer_down", subject="pacs", state=AlertState.FIRING, **fields))
        session.add(
            AlertMessage(channel="duty", state="waiting", body={}, made_at=now, not_before=now)
        )
        session.add(AuditSeal(position=9, event_id=1, digest="0" * 64))
        session.add(AuditMark(name=REPOSITORY, position=4, at=now))


@pytest.fixture
def samples(web: WebSite) -> dict[tuple[str, tuple[str, ...]], float]:
    fill(web)
    answer = web.browser().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name.removeprefix("dicom_node_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_everything_is_counted(samples: dict[tuple[str, tuple[str, ...]], float]) -> None:
    assert samples["jobs", ("tiny", "queued")] == 1
    assert samples["jobs", ("tiny", "done")] == 20
    assert samples["queue_oldest_job_seconds", ()] == 100
    assert samples["job_duration_seconds", ("tiny", "0.5")] == 10
    assert samples["job_duration_seconds", ("tiny", "0.95")] == 19
    assert samples["jobs_ended_last_hour", ("tiny",)] == 20
    assert samples["deliveries", ("pacs", "pending")] == 1
    assert samples["outbox_oldest_seconds", ("pacs",)] == 40
    assert samples["refused_last_day", ("association_rejected",)] == 12
    assert samples["refused_last_day", ("instance_refused",)] == 0
    assert samples["peer_up", ("pacs",)] == 0
    assert samples["alerts_firing", ("peer_down", "critical")] == 1
    assert samples["alert_messages", ("duty", "waiting")] == 1
    assert samples["audit_unsent_events", ()] == 5
    assert samples["role_processes", ("worker",)] == 0
    assert samples["disk_free_bytes", ()] > samples["disk_refuse_below_bytes", ()] == 1024 * 1024


def test_several_scrapers_cost_one_count(web: WebSite) -> None:
    browser = web.browser()
    first = browser.get("/metrics").text
    fill(web)
    assert browser.get("/metrics").text == first


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bdicom_node_[a-z_]+", text))


@pytest.mark.parametrize("file", ["grafana/dicom-node.json", "prometheus/alerts.yaml"])
def test_every_metric_that_deploy_asks_for_is_exported(
    samples: dict[tuple[str, tuple[str, ...]], float], file: str
) -> None:
    asked = names_in((DEPLOY / file).read_text())
    exported = {f"dicom_node_{name}" for name, _ in samples}
    assert asked
    assert asked <= exported | {"dicom_node_last_received_timestamp_seconds"}


def test_every_metric_is_documented(
    samples: dict[tuple[str, tuple[str, ...]], float],
) -> None:
    page = (DEPLOY.parent / "docs" / "metrics.md").read_text()
    exported = {f"dicom_node_{name}" for name, _ in samples}
    exported |= {"dicom_node_last_received_timestamp_seconds"}
    assert names_in(page) == exported


def test_the_rules_have_what_prometheus_wants() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_the_board_has_what_grafana_wants() -> None:
    board = json.loads((DEPLOY / "grafana" / "dicom-node.json").read_text())
    assert board["schemaVersion"] >= 39
    places = []
    for panel in board["panels"]:
        assert panel["targets"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        places.append((place["x"], place["y"]))
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_health_says_no_more_than_that_the_process_lives(web: WebSite) -> None:
    with web.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    assert web.browser().get("/healthz").json() == {"status": "alive"}


def test_a_node_whose_roles_run_is_ready(web: WebSite) -> None:
    data_dir = web.context.config.node.data_dir
    browser = web.browser()
    held = [hold(data_dir, name) for name in ("receiver-0", "coordinator", "worker-0")]
    assert all(held)
    assert browser.get("/readyz").json() == {"status": "ready", "wrong": {}}
    for item in held[1:]:
        assert item is not None
        item.close()
    answer = browser.get("/readyz")
    assert answer.status_code == 503
    assert set(answer.json()["wrong"]) == {"coordinator", "worker"}


def test_a_full_disk_and_an_old_database_are_told(make_site: Callable[..., WebSite]) -> None:
    site = make_site(node={"ae_title": "AINODE", "data_dir": "data", "min_free_mb": 10**9})
    with site.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    wrong = site.browser().get("/readyz").json()["wrong"]
    assert "images are refused" in wrong["disk"]
    assert "revision 0001" in wrong["database"]
