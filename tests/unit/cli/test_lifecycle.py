"""`held`, `release`, `discard`, `rerun`, `resend`, `purge`: a person decides, and it is told."""

from __future__ import annotations

import pytest

from dicom_node.model.states import DeliveryState, HoldReason, JobState
from dicom_node.store import audit, held, jobs, losses
from dicom_node.store.tables import AuditEvent, Delivery, Instance, Job
from tests.unit.cli.command import Ended, dicom_node
from tests.unit.cli.conftest import DECLINED, DONE, FAILED, LEASE, UNWANTED, Ran

WHY = ("--reason", "asked by the radiologist")


def run(ran: Ran, *arguments: str) -> Ended:
    return dicom_node(*arguments, "--config", ran.config_file)


def hold(ran: Ran, study: str, reason: HoldReason = HoldReason.CHANGED_PATIENT) -> None:
    with ran.database.write() as session:
        text = "an image from XR differs from those before in PatientID"
        held.hold(session, held.find(session, study), reason, text, ran.clock.now())


def events(ran: Ran, kind: str) -> list[AuditEvent]:
    with ran.database.read() as session:
        return [row for row in session.query(AuditEvent).all() if row.kind == kind]


def states(ran: Ran) -> tuple[list[str], list[str]]:
    with ran.database.read() as session:
        return (
            [job.state for job in session.query(Job).order_by(Job.id)],
            [row.state for row in session.query(Delivery).order_by(Delivery.id)],
        )


def test_a_node_without_held_studies_says_so(ran: Ran) -> None:
    assert run(ran, "held").out == "no study is held\n"
    assert run(ran, "held", "--json").json == []


def test_a_held_study_is_listed_with_the_reason_and_stands_first_in_status(ran: Ran) -> None:
    hold(ran, DONE)
    ended = run(ran, "held")
    assert DONE in ended.lines[1]
    assert "changed_patient" in ended.lines[1]
    assert ended.lines[2].strip() == "an image from XR differs from those before in PatientID"
    status = run(ran, "status")
    assert status.lines[0].startswith(f"held: study {DONE}: an image from XR differs")
    assert "    held: an image from XR differs from those before in PatientID" in status.lines
    assert run(ran, "status", "--json").json["held"][0]["reason"] == "changed_patient"


def test_a_suspect_pipeline_is_told_in_status(ran: Ran) -> None:
    with ran.database.write() as session:
        losses.blame(session, session.get_one(Job, 2), "it crashed", ran.clock.now(), 0)
    (line,) = [line for line in run(ran, "status").lines if line.startswith("suspect")]
    assert "pipeline hip, since" in line
    assert line.endswith("it crashed")


def test_a_released_study_goes_on_and_the_audit_trail_says_who_and_why(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "kim")
    hold(ran, FAILED, HoldReason.QUARANTINED)
    ended = run(ran, "release", FAILED, *WHY)
    assert ended.lines == [f"released: study {FAILED}", "queued again: job 2"]
    assert states(ran)[0] == ["done", "queued", "not_evaluated"]
    (event,) = events(ran, "study_released")
    assert (event.data["by"], event.data["reason"]) == ("kim", "asked by the radiologist")


@pytest.mark.parametrize("command", ["release", "discard", "rerun", "resend"])
def test_a_reason_is_asked_for_and_an_unknown_study_told(ran: Ran, command: str) -> None:
    assert run(ran, command, DONE).status == 2
    ended = run(ran, command, "1.2.3", *WHY)
    assert ended.status == 1
    assert "study 1.2.3: it is not in the index" in ended.err


def test_a_study_that_is_not_held_cannot_be_released(ran: Ran) -> None:
    ended = run(ran, "release", DONE, *WHY)
    assert (ended.status, "it is not held" in ended.err) == (1, True)


def test_a_held_study_is_neither_routed_nor_retried_before_it_is_released(ran: Ran) -> None:
    hold(ran, FAILED)
    for arguments in (["--study", FAILED], ["2"]):
        ended = run(ran, "retry", *arguments)
        assert ended.status == 1
        assert "differs from those before in PatientID" in ended.err
        assert f"dicom-node release {FAILED}" in ended.err
    assert "nothing to do" not in run(ran, "retry", "--failed").out
    assert states(ran)[0][1] == "failed"


def test_a_discarded_study_is_given_up(ran: Ran) -> None:
    hold(ran, DECLINED)
    ended = run(ran, "discard", DECLINED, *WHY)
    assert ended.lines == [f"discarded: study {DECLINED}; 2 jobs and deliveries given up"]
    assert states(ran)[1][2:] == ["superseded", "superseded"]
    assert run(ran, "held").out == "no study is held\n"


def test_jobs_that_are_done_run_again_on_demand(ran: Ran) -> None:
    ended = run(ran, "rerun", DONE, *WHY)
    assert ended.lines == ["queued again: job 1 (knee)"]
    assert states(ran)[0][0] == JobState.QUEUED
    (event,) = events(ran, "job_retried")
    assert event.data["reason"] == "asked by the radiologist"
    assert run(ran, "rerun", DONE, *WHY).status == 0, "it waits already"


def test_only_one_pipeline_s_job_runs_again_where_one_is_named(ran: Ran) -> None:
    ended = run(ran, "rerun", DONE, "--pipeline", "hip", *WHY)
    assert (ended.status, "it has no job of hip" in ended.err) == (1, True)
    assert run(ran, "rerun", UNWANTED, *WHY).status == 1
    assert run(ran, "rerun", DONE, "--pipeline", "knee", *WHY).status == 0


def test_a_running_job_is_left_alone(ran: Ran) -> None:
    run(ran, "rerun", DONE, *WHY)
    with ran.database.write() as session:
        assert jobs.claim(session, "worker-0@here", ran.clock.now(), LEASE)
    assert "it is running" in run(ran, "rerun", DONE, *WHY).err


def test_reports_that_were_sent_are_sent_again_on_demand(ran: Ran) -> None:
    ended = run(ran, "resend", DONE, "--peer", "pacs", *WHY)
    assert ended.lines == [
        "queued again: SR of job 1 to pacs",
        "queued again: SC of job 1 to pacs",
    ]
    assert states(ran)[1][:2] == [DeliveryState.PENDING] * 2
    (event,) = events(ran, "resend_asked")
    assert (event.peer, event.data["reason"]) == ("pacs", "asked by the radiologist")
    assert run(ran, "resend", DONE, "--peer", "nobody", *WHY).status == 2


def test_reports_that_were_purged_or_never_made_cannot_be_sent(ran: Ran) -> None:
    with ran.database.write() as session:
        for delivery in session.query(Delivery).order_by(Delivery.id).limit(2):
            delivery.report.purged_at = ran.clock.now()
    assert "its reports were purged" in run(ran, "resend", DONE, *WHY).err
    assert "no report of it was queued" in run(ran, "resend", FAILED, *WHY).err


def test_a_dry_run_says_what_would_go_and_a_purge_removes_it(ran: Ran) -> None:
    files = {}
    with ran.database.write() as session:
        for row in session.query(Instance):
            study = row.study.study_instance_uid
            row.path = f"studies/{study}/1/{row.id}.dcm"
            files[study] = ran.data_dir / "spool" / row.path
            files[study].parent.mkdir(parents=True)
            files[study].write_bytes(b"x" * 2048)
    ended = run(ran, "purge", "--dry-run")
    # what failed, waits for a peer or still comes stays, however old it is
    (line,) = [line for line in ended.lines if line.startswith("images")]
    assert line.startswith(f"images of study {UNWANTED}, finished 2026-01-02")
    assert line.endswith("(1 files, 2.0 KiB): age")
    assert ended.lines[-1] == "1 items, 2.0 KiB would go"
    assert all(file.exists() for file in files.values())
    assert run(ran, "purge", "--dry-run", "--json").json[0]["bytes"] == 2048
    assert run(ran, "purge").lines[-1] == "1 items, 2.0 KiB gone"
    assert {study for study, file in files.items() if not file.exists()} == {UNWANTED}
    with ran.database.read() as session:
        assert audit.events_of(session, UNWANTED)[-1].kind == "images_purged"


def test_a_reason_that_says_nothing_is_refused_and_nothing_happens(ran: Ran) -> None:
    hold(ran, DONE)
    ended = run(ran, "release", DONE, "--reason", " ")
    assert (ended.status, "it is empty" in ended.err) == (2, True)
    assert DONE in run(ran, "held", "--wide").out
