"""`retry`: what failed is done again, and the command says what it did."""

from __future__ import annotations

from dicom_node.cli.options import user
from dicom_node.clock import SystemClock
from dicom_node.model.states import DeliveryState, JobState
from dicom_node.store import jobs, outbox
from dicom_node.store.tables import AuditEvent, Delivery, Job, Study
from tests.unit.cli.command import Ended, dicom_node
from tests.unit.cli.conftest import COMING, DONE, LEASE, UNWANTED, Ran


def retry(ran: Ran, *arguments: str) -> Ended:
    return dicom_node("retry", *arguments, "--config", ran.config_file)


def job_states(ran: Ran) -> list[str]:
    with ran.database.read() as session:
        return [job.state for job in session.query(Job).order_by(Job.id)]


def delivery_states(ran: Ran) -> list[str]:
    with ran.database.read() as session:
        return [row.state for row in session.query(Delivery).order_by(Delivery.id)]


def test_a_failed_job_is_queued_again(ran: Ran) -> None:
    ended = retry(ran, "2")
    assert (ended.status, ended.out, ended.err) == (0, "queued again: job 2 (hip)\n", "")
    assert job_states(ran) == ["done", "queued", "not_evaluated"]


def test_who_asked_is_in_the_audit_trail(ran: Ran) -> None:
    retry(ran, "2")
    retry(ran, "--peer", "pacs")
    retry(ran, "--study", UNWANTED)
    kinds = ("job_retried", "report_retried", "study_to_route_again")
    with ran.database.read() as session:
        asked = session.query(AuditEvent).filter(AuditEvent.kind.in_(kinds)).all()
        assert {event.kind for event in asked} == set(kinds)
        assert {event.data["by"] for event in asked} == {user()}


def test_a_job_that_is_done_can_be_run_again(ran: Ran) -> None:
    assert retry(ran, "1").status == 0
    assert job_states(ran)[0] == JobState.QUEUED


def test_a_job_that_runs_is_left_alone(ran: Ran) -> None:
    retry(ran, "2")
    with ran.database.write() as session:
        assert jobs.claim(session, "worker-0@here", ran.clock.now(), LEASE) is not None
    ended = retry(ran, "2")
    assert ended.status == 1
    assert "job 2: it is running (worker-0@here)" in ended.err
    assert job_states(ran)[1] == JobState.RUNNING


def test_a_job_that_there_is_not_is_told(ran: Ran) -> None:
    ended = retry(ran, "99")
    assert ended.status == 1
    assert ended.err == "job 99: there is none\n    fix: see `dicom-node jobs`\n"


def test_a_peer_gets_at_once_what_it_refused_and_what_waits_for_it(ran: Ran) -> None:
    ended = retry(ran, "--peer", "pacs")
    assert ended.lines == [
        "queued again: SC of job 1 to pacs",
        "queued again: SR of job 3 to pacs",
        "queued again: SC of job 3 to pacs",
    ]
    assert delivery_states(ran) == ["sent", "pending", "pending", "pending"]
    with ran.database.read() as session:
        assert len(outbox.due(session, "pacs", SystemClock().now())) == 3
    with ran.database.write() as session:
        for row in session.query(Delivery).filter_by(state="pending"):
            row.state = DeliveryState.SENT
    assert retry(ran, "--peer", "pacs").out == "pacs has taken all\n"


def test_a_peer_that_node_yaml_has_not_is_a_mistake_of_usage(ran: Ran) -> None:
    ended = retry(ran, "--peer", "paks")
    assert ended.status == 2
    assert "known: pacs, xray" in ended.err


def test_everything_that_failed_and_nothing_else_is_done_again(ran: Ran) -> None:
    ended = retry(ran, "--failed")
    assert ended.lines == ["queued again: job 2 (hip)", "queued again: SC of job 1 to pacs"]
    assert job_states(ran) == ["done", "queued", "not_evaluated"]
    assert retry(ran, "--failed").out == "nothing to do: nothing had failed\n"


def test_a_study_is_routed_again_when_it_has_settled(ran: Ran) -> None:
    ended = retry(ran, "--study", UNWANTED)
    assert ended.out == f"queued again: routing of study {UNWANTED}\n"
    with ran.database.read() as session:
        study = session.query(Study).filter_by(study_instance_uid=UNWANTED).one()
        assert study.routed_revision < study.revision
        assert study.unrouted_reason is None
    ended = retry(ran, "--study", COMING)
    assert ended.status == 1
    assert "images of it still come" in ended.err
    assert "not in the index" in retry(ran, "--study", "1.2.3").err


def test_one_thing_at_a_time(ran: Ran) -> None:
    for arguments in ([], ["1", "--failed"], ["--peer", "pacs", "--study", DONE]):
        ended = retry(ran, *arguments)
        assert ended.status == 2
        assert "give a job, --peer, --study or --failed" in ended.err
