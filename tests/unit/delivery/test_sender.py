"""The outbox's senders: every answer is recorded, a failure comes back later, then fails loudly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.delivery import Answer, Outbox, Outgoing, PeerSender, RetryStrategy, Verdict
from dicom_node.model.states import JobState, StudyState
from dicom_node.store import index, jobs
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.tables import Delivery, Study
from tests.factories import ManualClock, facts
from tests.peers.databases import KINDS, fresh_database
from tests.peers.ports import wait_for

RETRY = RetryStrategy(
    timedelta(seconds=5), timedelta(seconds=60), timedelta(hours=1), jitter=lambda: 0.0
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=KINDS)
def database(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[Database]:
    """A database with one finished job of two objects for `pacs` and `archive`."""
    with fresh_database(request.param, request, tmp_path) as database:
        _one_job(database, clock.now())
        yield database


def _one_job(database: Database, now: datetime) -> None:
    with database.write() as session:
        index.add_instance(session, index.Arrival(facts(), "x", "a", now), now)
        study = session.get_one(Study, 1)
        study.state = StudyState.SETTLED
        jobs.enqueue(
            session, study, NewJob("kl", "1", "w", ["1.2.3.1.1"], ["pacs", "archive"], "r"), now
        )
        jobs.claim(session, "w0", now, timedelta(seconds=9))
        reports = [
            NewReport(kind, "1.2.840.10008.5.1.4.1.1.7", f"2.25.{n}", f"s/{n}.dcm", "h")
            for n, kind in enumerate(("SR", "SC"))
        ]
        jobs.finish(session, 1, "w0", JobResult(JobState.DONE, reports, []), now)


Script = Callable[[Outgoing], Answer]


class Scripted:
    """A destination whose answers a test writes."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def send(self, objects: Sequence[Outgoing]) -> Iterator[Answer]:
        yield from map(self._script, objects)

    def check(self) -> str | None:
        return None


def sender(
    database: Database,
    clock: ManualClock,
    script: Script,
    name: str = "pacs",
    retry: RetryStrategy = RETRY,
) -> PeerSender:
    return PeerSender(
        name,
        Scripted(script),
        database=database,
        reports_dir=Path("/nowhere"),
        retry=retry,
        clock=clock,
    )


def deliveries(database: Database, peer: str = "pacs") -> list[Delivery]:
    with database.read() as session:
        return [d for d in session.query(Delivery).order_by(Delivery.id) if d.peer == peer]


def said(verdict: Verdict, text: str = "status 0x0000 (Success)") -> Script:
    return lambda item: Answer(item.id, verdict, text)


def test_sent_objects_are_recorded_with_the_answer_and_not_sent_again(
    database: Database, clock: ManualClock
) -> None:
    one = sender(database, clock, said(Verdict.SENT))
    assert one.send_due() == 2
    assert {(d.state, d.answer) for d in deliveries(database)} == {
        ("sent", "status 0x0000 (Success)")
    }
    assert one.send_due() == 0
    assert {d.state for d in deliveries(database, "archive")} == {"pending"}


def test_a_refused_object_comes_back_later_and_later(
    database: Database, clock: ManualClock
) -> None:
    one = sender(database, clock, said(Verdict.TRY_AGAIN, "status 0xA700"))
    waits = []
    for _ in range(6):
        assert one.send_due() == 2
        assert one.send_due() == 0
        row = deliveries(database)[0]
        waits.append((row.next_attempt_at - clock.now()).total_seconds())
        clock.move(waits[-1])
    assert waits == [5, 10, 20, 40, 60, 60]


def test_after_the_upper_age_it_fails_with_what_the_peer_said(
    database: Database, clock: ManualClock
) -> None:
    one = sender(database, clock, said(Verdict.TRY_AGAIN, "status 0xA700"))
    for _ in range(100):
        one.send_due()
        clock.move(61)
    assert {(d.state, d.answer) for d in deliveries(database)} == {("failed", "status 0xA700")}
    assert one.send_due() == 0


def test_one_refused_object_does_not_hold_up_the_other(
    database: Database, clock: ManualClock
) -> None:
    first = deliveries(database)[0].id

    def script(item: Outgoing) -> Answer:
        verdict = Verdict.TRY_AGAIN if item.id == first else Verdict.SENT
        return Answer(item.id, verdict, "said")

    sender(database, clock, script).send_due()
    assert [d.state for d in deliveries(database)] == ["pending", "sent"]


def test_a_peer_that_is_away_is_told_once_and_its_objects_come_back_together(
    database: Database, clock: ManualClock
) -> None:
    def script(item: Outgoing) -> Answer:
        return Answer(item.id, Verdict.TRY_AGAIN, "no association", away=True)

    jitter = iter((0.1, 0.9))
    one = sender(database, clock, script, retry=replace(RETRY, jitter=lambda: next(jitter)))
    with capture_logs() as logs:
        assert one.send_due() == 2
    assert [(entry["event"], entry["objects"]) for entry in logs] == [("peer_away", 2)]
    rows = deliveries(database)
    assert {(row.state, row.attempts, row.answer) for row in rows} == {
        ("pending", 1, "no association")
    }
    assert len({row.next_attempt_at for row in rows}) == 1
    clock.move(3700)
    with capture_logs() as logs:
        assert one.send_due() == 2
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("report_failed", "error")]
    assert {row.state for row in deliveries(database)} == {"failed"}


def test_an_error_in_one_sender_is_told_and_neither_it_nor_another_ends(
    database: Database, clock: ManualClock
) -> None:
    broken = threading.Event()

    def script(item: Outgoing) -> Answer:
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError("Doe^Jane")
        return Answer(item.id, Verdict.SENT, "status 0x0000 (Success)")

    outbox = Outbox(
        [
            sender(database, clock, script),
            sender(database, clock, said(Verdict.SENT), name="archive"),
        ],
        timedelta(seconds=0.05),
    )
    with capture_logs() as logs:
        outbox.start()
        try:
            for name in ("pacs", "archive"):
                wait_for(
                    name, lambda n=name: {d.state for d in deliveries(database, n)} == {"sent"}
                )
            assert outbox.alive
        finally:
            outbox.stop()
    (told,) = [entry for entry in logs if entry["event"] == "sender_failed"]
    assert (told["peer"], told["error"]) == ("pacs", "ZeroDivisionError")
    assert "Doe" not in str(logs)


def test_a_sender_that_is_added_begins_at_once_and_only_one_for_a_peer(
    database: Database, clock: ManualClock
) -> None:
    outbox = Outbox([sender(database, clock, said(Verdict.SENT))], timedelta(seconds=0.05))
    outbox.start()
    try:
        for _ in range(2):
            outbox.add(sender(database, clock, said(Verdict.SENT), name="archive"))
        wait_for("archive", lambda: {d.state for d in deliveries(database, "archive")} == {"sent"})
        assert outbox.alive
        assert outbox.peers == {"pacs", "archive"}
    finally:
        outbox.stop()
    assert not outbox.alive
    outbox.add(sender(database, clock, said(Verdict.SENT), name="late"))
    assert outbox.peers == {"pacs", "archive"}


def test_a_file_that_is_gone_fails_at_once(database: Database, clock: ManualClock) -> None:
    sender(database, clock, said(Verdict.NEVER, "gone")).send_due()
    assert {d.state for d in deliveries(database)} == {"failed"}


def test_a_break_after_the_first_object_keeps_the_first_answer(
    database: Database, clock: ManualClock
) -> None:
    first = deliveries(database)[0].id

    def script(item: Outgoing) -> Answer:
        if item.id == first:
            return Answer(item.id, Verdict.SENT, "ok")
        raise KeyboardInterrupt

    one = sender(database, clock, script)
    with pytest.raises(KeyboardInterrupt):
        one.send_due()
    assert [d.state for d in deliveries(database)] == ["sent", "pending"]
