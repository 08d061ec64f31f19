"""Work that recurs goes on after an exception, and says so without filling the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from structlog.testing import capture_logs

from dicom_node.errors import SpoolError
from dicom_node.serve.recurring import Recurring
from tests.peers.ports import wait_for


class Work:
    """Fails as often as told, then succeeds."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or ValueError("Doe^Jane")
        self.turns = 0

    def __call__(self) -> None:
        self.turns += 1
        if self.turns <= self.failures:
            raise self.error


@pytest.fixture
def scheduler() -> Iterator[BackgroundScheduler]:
    scheduler = BackgroundScheduler()
    scheduler.start()
    yield scheduler
    scheduler.shutdown()


def test_the_scheduler_calls_it_again_after_an_exception(scheduler: BackgroundScheduler) -> None:
    recovered = threading.Event()
    work = Work(2)

    def turn() -> None:
        work()
        recovered.set()

    scheduler.add_job(Recurring("turn", turn), "interval", seconds=0.05)
    wait_for("a turn after two failures", recovered.is_set)
    assert work.turns >= 3


def test_failures_in_a_row_are_logged_at_every_doubling_and_the_recovery_once() -> None:
    recurring = Recurring("index", Work(9))
    with capture_logs() as logs:
        for _ in range(11):
            recurring()
    failed = [e["failures_in_a_row"] for e in logs if e["event"] == "recurring_work_failed"]
    assert failed == [1, 2, 4, 8]
    assert [e["after_failures"] for e in logs if e["event"] == "recurring_work_recovered"] == [9]


def test_the_log_has_the_place_and_not_the_text_of_a_strange_exception() -> None:
    with capture_logs() as logs:
        Recurring("index", Work(1))()
    assert logs[0]["error"] == "ValueError"
    assert "test_recurring.py:" in logs[0]["where"]
    assert "Doe" not in str(logs)


def test_the_log_has_what_why_and_fix_of_our_own() -> None:
    with capture_logs() as logs:
        Recurring("index", Work(1, SpoolError("inbox", "No space left", "free space")))()
    assert (logs[0]["what"], logs[0]["why"], logs[0]["fix"]) == (
        "inbox",
        "No space left",
        "free space",
    )
