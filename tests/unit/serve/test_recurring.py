"""Work that recurs goes on after an exception, and says so without filling the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from dicom_node.errors import SpoolError
from dicom_node.serve.recurring import Recurring, Timetable
from tests.factories import ManualClock
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
def steady() -> list[float]:
    """What the monotonic clock shows."""
    return [0.0]


@pytest.fixture
def timetable(clock: ManualClock, steady: list[float]) -> Iterator[Timetable]:
    timetable = Timetable(2, clock, lambda: steady[0])
    timetable.start()
    yield timetable
    timetable.stop()


def test_it_is_called_again_after_an_exception(timetable: Timetable) -> None:
    recovered = threading.Event()
    work = Work(2)

    def turn() -> None:
        work()
        recovered.set()

    timetable.every(0.05, turn)
    wait_for("a turn after two failures", recovered.is_set)
    assert work.turns >= 3


def test_a_clock_that_is_put_back_lets_nothing_rest(
    timetable: Timetable, clock: ManualClock, steady: list[float]
) -> None:
    turns = {"one": threading.Event(), "two": threading.Event()}
    for name, turn in turns.items():
        timetable.every(3600, turn.set, name)

    def look(wall: float, passed: float) -> list[float]:
        clock.move(wall)
        steady[0] += passed
        with capture_logs() as logs:
            timetable.keep_time()
        return [line["by_seconds"] for line in logs if line["event"] == "clock_put_back"]

    # as it should be, slowed down by NTP, put forward
    assert [look(0.5, 0.5), look(0.4, 0.5), look(7200, 0.5)] == [[], [], []]
    due = [job.next_run_time for job in timetable._scheduler.get_jobs()]
    assert all(at > datetime.now(UTC) + timedelta(minutes=50) for at in due)
    assert look(-3599.5, 0.5) == [3600]
    wait_for("a turn of each", lambda: all(turn.is_set() for turn in turns.values()))
    assert look(0.5, 0.5) == [], "it is told once"


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
