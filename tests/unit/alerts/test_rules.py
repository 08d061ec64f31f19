"""Each rule: what makes it true, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.alerts import Condition, Seen, conditions
from dicom_node.model.alerts import AlertRule
from dicom_node.model.states import DeliveryState, HoldReason, JobState, StudyState
from dicom_node.store import audit, fitness, looks
from dicom_node.store.database import Database
from dicom_node.store.tables import Delivery, Job, Study, Suspect
from dicom_node.store.watch_tables import REPOSITORY, AuditMark
from tests.factories import ManualClock, report_row
from tests.unit.serve.small_node import config_in

NOW = ManualClock().now()
UID = "1.2.826.0.1.3680043.8.498.7"

Ask = Callable[..., dict[tuple[str, str], Condition]]


@pytest.fixture
def ask(tmp_path: Path, database: Database) -> Ask:
    def ask(seen: Seen | None = None, **sections: Any) -> dict[tuple[str, str], Condition]:
        config = config_in(tmp_path, **sections)
        with database.read() as session:
            found = conditions(session, config, seen or Seen(), NOW)
        for item in found:
            assert item.text.endswith(".")
            assert item.fix
        return {(str(item.rule), item.subject): item for item in found}

    return ask


def study(database: Database, uid: str = UID, **fields: Any) -> int:
    row = Study(
        **{
            "study_instance_uid": uid,
            "state": StudyState.SETTLED,
            "first_instance_at": NOW - timedelta(hours=9),
            "last_instance_at": NOW - timedelta(hours=9),
            "settled_at": NOW - timedelta(hours=8),
            "revision": 1,
            "routed_revision": 1,
            **fields,
        }
    )
    with database.write() as session:
        session.add(row)
        session.flush()
        return row.id


def job(database: Database, study_id: int, state: JobState, number: int = 0, **fields: Any) -> int:
    row = Job(
        **{
            "study_id": study_id,
            "pipeline": "tiny",
            "version": "1",
            "input_key": f"{number:064}",
            "state": state,
            "inputs": [],
            "peers": ["pacs"],
            "reason": "",
            "queued_at": NOW - timedelta(hours=8),
            **fields,
        }
    )
    with database.write() as session:
        session.add(row)
        session.flush()
        return row.id


def test_nothing_is_wrong_with_a_new_node(ask: Ask) -> None:
    assert ask() == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"state": StudyState.RECEIVING, "settled_at": None},
        {"routed_revision": 0},
    ],
)
def test_a_study_that_does_not_get_on(ask: Ask, database: Database, fields: Any) -> None:
    study(database, **fields)
    found = ask()
    assert list(found) == [("study_stuck", "")]
    assert UID in found["study_stuck", ""].text
    assert ask(alerts={"rules": {"study_stuck": {"limit": 600}}}) == {}
    assert ask(alerts={"rules": {"study_stuck": {"enabled": False}}}) == {}


def test_a_study_that_waits_for_a_person(ask: Ask, database: Database) -> None:
    study(
        database,
        routed_revision=0,
        held_at=NOW - timedelta(hours=1),
        held_reason=HoldReason.QUARANTINED,
    )
    assert list(ask()) == [("study_held", "")]


def test_a_peer_that_does_not_answer_is_told_when_it_gets_reports(
    ask: Ask, database: Database
) -> None:
    with database.write() as session:
        for peer in ("pacs", "xray", "gone"):
            looks.note_look(session, peer, "no association", NOW - timedelta(minutes=5))
            looks.note_look(session, peer, "no association", NOW)
    found = ask()
    assert list(found) == [("peer_down", "pacs")]
    assert (NOW - timedelta(minutes=5)).isoformat() in found["peer_down", "pacs"].text
    with database.write() as session:
        looks.note_look(session, "pacs", None, NOW)
    assert ask() == {}


def test_objects_that_wait_too_long_or_were_given_up(ask: Ask, database: Database) -> None:
    job_id = job(database, study(database), JobState.DONE, finished_at=NOW - timedelta(hours=7))
    with database.write() as session:
        for number, state in enumerate(
            (DeliveryState.PENDING, DeliveryState.PENDING, DeliveryState.FAILED)
        ):
            report = report_row(session, job_id, NOW, sop_instance_uid=f"1.{number}")
            session.add(
                Delivery(
                    report_id=report.id,
                    peer="pacs",
                    state=state,
                    queued_at=NOW - timedelta(hours=2 - number),
                    next_attempt_at=NOW,
                )
            )
    text = ask()["delivery_late", "pacs"].text
    assert "1 object is given up" in text
    assert "1 object is waiting for more than 60 minutes" in text


def test_a_job_that_no_worker_takes(ask: Ask, database: Database) -> None:
    job_id = job(database, study(database), JobState.QUEUED)
    assert f"job {job_id} since" in ask()["queue_age", ""].text


def test_a_pipeline_of_which_too_many_jobs_fail(ask: Ask, database: Database) -> None:
    study_id = study(database)
    for number in range(10):
        state = JobState.FAILED if number < 3 else JobState.DONE
        job(database, study_id, state, number, finished_at=NOW - timedelta(minutes=number))
    assert "3 of 10 jobs" in ask()["failure_rate", "tiny"].text
    assert ask(alerts={"rules": {"failure_rate": {"limit": 31}}}) == {}


def test_two_failures_are_no_rate(ask: Ask, database: Database) -> None:
    study_id = study(database)
    for number in range(2):
        job(database, study_id, JobState.FAILED, number, finished_at=NOW)
    assert ask() == {}


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        (Seen(disk="low", disk_text="3 MiB free"), ("disk_low", "")),
        (Seen(disk="full", disk_text="3 MiB free"), ("disk_full", "")),
        (Seen(roles_down=["worker-1"]), ("role_down", "worker-1")),
        (Seen(clock_jump=-3600), ("clock", "set")),
        (Seen(files_missing=2), ("files_lost", "")),
        (Seen(audit_broken="The audit trail is not whole."), ("audit_trail", "")),
        (
            Seen(certificates={"of receive.tls": NOW + timedelta(days=29)}),
            ("certificate", "of receive.tls"),
        ),
    ],
)
def test_what_was_measured(ask: Ask, seen: Seen, rule: tuple[str, str]) -> None:
    assert list(ask(seen)) == [rule]


def test_a_certificate_that_lasts_and_a_clock_that_drifts_are_fine(ask: Ask) -> None:
    lasts = {"of receive.tls": NOW + timedelta(days=31)}
    assert ask(Seen(certificates=lasts, clock_jump=0.4)) == {}


def test_a_peer_s_certificate_is_told_while_that_peer_is_asked_for_it(
    ask: Ask, database: Database
) -> None:
    with database.write() as session:
        for name in ("pacs", "gone"):
            looks.note_look(session, name, None, NOW, NOW - timedelta(days=1))
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    xray = {**pacs, "ae_title": "XRAY"}
    (found,) = ask(peers={"pacs": {**pacs, "tls": {}}, "xray": xray}).values()
    assert found.subject == "of peer pacs"
    assert "its people" in found.fix
    # neither a peer that is gone nor one that has no TLS any more could ever show another
    assert ask() == {}


@pytest.mark.parametrize(("name", "restart"), [("of hosts", True), ("of receive.tls", False)])
def test_whether_a_renewed_certificate_needs_a_restart_is_told(
    ask: Ask, name: str, restart: bool
) -> None:
    (found,) = ask(Seen(certificates={name: NOW})).values()
    assert ("then restart" in found.fix) is restart


def test_a_clock_that_was_put_back_is_seen_by_the_audit_trail(ask: Ask, database: Database) -> None:
    with database.write() as session:
        audit.record(session, NOW + timedelta(hours=1), "study_begun")
    assert list(ask()) == [("clock", "behind")]


def test_events_of_the_last_hour(ask: Ask, database: Database) -> None:
    with database.write() as session:
        for _ in range(4):
            audit.record(session, NOW, "role_started", role="worker", child="worker-0")
            audit.record(session, NOW - timedelta(hours=2), "role_started", child="receiver")
        audit.record(session, NOW, "role_started", role="worker", child="worker-1")
        audit.record(session, NOW, "file_set_aside", file="x", why="no DICOM")
        for address, times in (("10.9.9.9", 45), ("10.0.0.1", 6)):
            audit.record(
                session, NOW, "association_rejected", peer="EVIL", address=address, times=times
            )
    found = ask()
    assert list(found) == [("files_aside", ""), ("role_restarts", "worker-0"), ("refusals", "")]
    text = found["refusals", ""].text
    assert "51 refusals" in text
    assert "45 of them of EVIL at 10.9.9.9" in text


def test_images_that_came_again_with_other_content(ask: Ask, database: Database) -> None:
    with database.write() as session:
        for sop in ("1", "2"):
            audit.record(session, NOW, "instance_conflict", sop_instance_uid=sop)
        audit.record(session, NOW - timedelta(hours=2), "instance_conflict", sop_instance_uid="0")
    found = ask()
    assert list(found) == [("files_aside", "other content")]
    assert "2 images came again" in found["files_aside", "other content"].text


def test_a_suspect_pipeline(ask: Ask, database: Database) -> None:
    with database.write() as session:
        session.add(Suspect(pipeline="tiny", since=NOW, why="it said DOE^JANE"))
    found = ask()
    assert list(found) == [("pipeline_suspect", "tiny")]
    assert "DOE" not in found["pipeline_suspect", "tiny"].text


def test_a_pipeline_that_failed_its_self_test(ask: Ask, database: Database) -> None:
    with database.write() as session:
        fitness.record(session, "tiny", "1", "", ["another answer"], NOW)
    assert list(ask()) == [("pipeline_disabled", "tiny")]


def test_an_audit_repository_that_takes_nothing(ask: Ask, database: Database) -> None:
    with database.write() as session:
        session.add(AuditMark(name=REPOSITORY, position=0, at=NOW, failures=1, trouble="no answer"))
    assert ask() == {}, "there is none any more"
    assert list(ask(audit={"syslog": "arr"})) == [("audit_repository", "")]


def test_every_rule_is_asked() -> None:
    from dicom_node.alerts.rules import _RULES

    assert set(_RULES) == set(AlertRule)
