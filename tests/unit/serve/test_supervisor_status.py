"""What the supervisor tells a new process of the one before, and which name a worker then has."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from dicom_node.serve import roles
from dicom_node.serve.locks import hold, worker_name
from dicom_node.serve.supervisor import CHILD, LAST_STATUS, SUPERVISED, Patience, Supervisor
from tests.peers.ports import wait_for
from tests.unit.serve.test_supervisor import running

TELLS = (
    "import os, sys; open({mark!r}, 'a').write("
    f"os.environ['{CHILD}'] + ' ' + os.environ.get('{LAST_STATUS}', 'first') + '\\n'); "
    "sys.stdin.read(); os.abort()"
)


def test_a_process_is_told_its_name_and_how_its_predecessor_ended(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    supervisor = Supervisor(
        {"worker-1": (sys.executable, "-c", TELLS.format(mark=str(mark)))},
        patience=Patience(first=0.01),
    )

    def told() -> list[str]:
        return mark.read_text().splitlines() if mark.exists() else []

    def pid() -> int:
        process = supervisor._children[0].process
        return process.pid if process else 0

    with running(supervisor):
        for number, signal_ in enumerate((signal.SIGALRM, signal.SIGSEGV), start=1):
            wait_for("its start", lambda n=number: len(told()) == n)  # type: ignore[misc]
            os.kill(wait_for("its process", pid), signal_)
        wait_for("the third", lambda: len(told()) == 3)
    assert told() == ["worker-1 first", "worker-1 -14", "worker-1 -11"]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUPERVISED, "1")
    monkeypatch.setenv(LAST_STATUS, "-11")


@pytest.mark.parametrize(("name", "held_as"), [("worker", "worker-0"), ("worker-3", "worker-3")])
def test_a_worker_has_the_name_of_its_predecessor_and_knows_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: None, name: str, held_as: str
) -> None:
    monkeypatch.setenv(CHILD, name)
    held, status = roles._hold_worker(tmp_path)
    with held:
        assert (held.name, status) == (held_as, -11)


def test_a_worker_whose_name_is_taken_knows_nothing_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: None
) -> None:
    monkeypatch.setenv(CHILD, "worker")
    other = hold(tmp_path, "worker-0")
    assert other is not None
    with other:
        held, status = roles._hold_worker(tmp_path)
        with held:
            assert (held.name, status) == ("worker-1", None)


def test_a_worker_that_was_started_alone_takes_the_first_free_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAST_STATUS, "-11")
    held, status = roles._hold_worker(tmp_path)
    with held:
        assert (held.name, status) == ("worker-0", None)


def test_a_worker_s_name_in_the_queue_fits_its_column() -> None:
    assert len(worker_name("worker-0")) <= 64
    assert worker_name("worker-0").startswith("worker-0@")
