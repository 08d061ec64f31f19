"""A bell among processes: it rings those who wait, and costs those who ring nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dicom_node.store.doorbell import Doorbell, Ear

STOP = threading.Event()


@pytest.fixture
def bell(tmp_path: Path) -> Doorbell:
    return Doorbell(tmp_path / "wake", "jobs")


def waiter(bell: Doorbell) -> Ear:
    ear = bell.bell()
    assert ear is not None
    return ear


def pipes(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "wake").iterdir())


def test_every_waiter_is_rung_and_only_those_of_the_name(bell: Doorbell, tmp_path: Path) -> None:
    one, two = waiter(bell), waiter(bell)
    other = waiter(Doorbell(tmp_path / "wake", "images"))
    bell.ring()
    assert one.wait(STOP, 60)
    assert two.wait(STOP, 60)
    assert not other.wait(STOP, 0.01)


def test_what_was_rung_while_a_waiter_worked_is_one_ring(bell: Doorbell) -> None:
    ear = waiter(bell)
    for _ in range(3):
        bell.ring()
    assert ear.wait(STOP, 60)
    assert not ear.wait(STOP, 0.01)


def test_ringing_never_waits_for_a_waiter_that_does_not_listen(bell: Doorbell) -> None:
    ear = waiter(bell)
    filled = os.write(ear._fd, b"!" * 65536)
    bell.ring()
    assert filled
    assert ear.wait(STOP, 60)


def test_a_waiter_looks_all_the_same_after_its_time(tmp_path: Path) -> None:
    ear = waiter(Doorbell(tmp_path / "wake", "jobs", patience=0.2))
    began = time.monotonic()
    assert not ear.wait(STOP, 0)
    assert time.monotonic() - began >= 0.2


def test_a_waiter_that_is_to_end_waits_no_longer(bell: Doorbell) -> None:
    stop = threading.Event()
    stop.set()
    assert not waiter(bell).wait(stop, 3600)


def test_a_waiter_that_goes_leaves_no_pipe(bell: Doorbell, tmp_path: Path) -> None:
    ear = waiter(bell)
    assert len(pipes(tmp_path)) == 1
    ear.close()
    assert pipes(tmp_path) == []
    gone = waiter(bell)
    del gone
    assert pipes(tmp_path) == []


def test_the_pipe_of_a_killed_process_is_taken_down_by_who_rings(
    bell: Doorbell, tmp_path: Path
) -> None:
    kills_itself = (
        "import os, sys, pathlib; from dicom_node.store.doorbell import Doorbell; "
        "ear = Doorbell(pathlib.Path(sys.argv[1]), 'jobs').bell(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", kills_itself, str(tmp_path / "wake")], check=False)
    assert len(pipes(tmp_path)) == 1
    ear = waiter(bell)
    bell.ring()
    assert len(pipes(tmp_path)) == 1
    assert ear.wait(STOP, 60)


def test_where_no_pipe_can_be_made_there_is_no_bell(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bell = Doorbell(tmp_path / "file", "jobs")
    assert bell.bell() is None
    bell.ring()
