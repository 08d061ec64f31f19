"""Limits of time and memory: the kernel keeps them, and the next worker knows what happened."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.serve import limits
from dicom_node.serve.limits import LoadingMark, default_memory_mb, forget_loading, loss_of
from dicom_node.serve.locks import hold_numbered
from tests.unit.serve.small_node import bundle, config_in

LIMIT = timedelta(seconds=30)


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines of Python in a process that may be killed."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_what_takes_too_long_is_killed_although_it_never_lets_go_of_the_interpreter() -> None:
    ended = python(
        "import ctypes, datetime, signal\n"
        "from dicom_node.serve.limits import time_limit\n"
        # whoever started us may have ignored it
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
        "with time_limit(datetime.timedelta(seconds=0.2)):\n"
        "    ctypes.PyDLL(None).sleep(600)\n"
    )
    assert ended.returncode == -signal.SIGALRM


def test_what_ends_in_time_is_left_alone() -> None:
    ended = python(
        "import datetime, signal\n"
        "from dicom_node.serve.limits import time_limit\n"
        "with time_limit(datetime.timedelta(seconds=60)):\n"
        "    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0\n"
        "assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_memory_beyond_the_limit_is_an_error_of_the_process_until_the_limit_is_lifted() -> None:
    ended = python(
        "from dicom_node.serve.limits import lift_memory_limit, limit_memory\n"
        "limit_memory(1000)\n"
        "try:\n"
        "    bytearray(1100 << 20)\n"
        "except MemoryError:\n"
        "    lift_memory_limit()\n"
        "    print(len(bytearray(1100 << 20)) >> 20)\n"
    )
    assert (ended.returncode, ended.stdout) == (0, "1100\n"), ended.stderr


def test_no_limit_is_set_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(resource, "setrlimit", refuses)
    limits.limit_memory(0)


def test_the_default_is_a_share_of_the_memory_that_the_control_group_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(limits, "_CGROUP_LIMITS", (tmp_path / "none", limit))
    limit.write_text("max\n")
    of_the_machine = default_memory_mb(1)
    assert of_the_machine > 1536
    limit.write_text(f"{8 * 2**30}\n")
    assert default_memory_mb(1) == min(of_the_machine, 6144)
    assert default_memory_mb(2) == min(of_the_machine // 2, 3072)
    assert default_memory_mb(64) == 1536, "less would only keep pipelines from running"


@pytest.mark.parametrize(
    ("status", "reason", "blamed", "words"),
    [
        (-signal.SIGALRM, "time_limit", True, "it ran longer than its limit of 30 s"),
        (-signal.SIGSEGV, "crashed", True, "it crashed its worker with signal 11 (SIGSEGV)"),
        (-signal.SIGABRT, "crashed", True, "signal 6 (SIGABRT)"),
        (-signal.SIGRTMAX, "crashed", True, "signal 64 (SIGRTMAX)"),
        (-63, "crashed", True, "signal 63"),
        (3, "crashed", True, "exit status 3"),
        (-signal.SIGKILL, "killed", False, "SIGKILL"),
        (-signal.SIGTERM, "lost", False, "was stopped"),
        (1, "lost", False, "was stopped"),
        (0, "lost", False, "was stopped"),
        (None, "lost", False, "was stopped"),
    ],
)
def test_how_a_worker_ended_says_whether_the_job_is_to_blame(
    status: int | None, reason: str, blamed: bool, words: str
) -> None:
    loss = loss_of(status, LIMIT)
    assert (loss.reason, loss.blamed, words in loss.why) == (reason, blamed, True), loss


def test_a_site_s_time_limit_comes_before_the_pipeline_s_and_that_before_the_node_s(
    tmp_path: Path,
) -> None:
    tiny = bundle(tmp_path)
    own = {"tiny": tiny}
    config = config_in(tmp_path, inference={"time_limit_seconds": 100})
    assert limits.time_limits(config, own) == {"tiny": timedelta(seconds=100)}
    spec = tiny.spec.model_copy(update={"time_limit_seconds": 50})
    object.__setattr__(tiny, "spec", spec)
    assert limits.time_limits(config, own) == {"tiny": timedelta(seconds=50)}
    config = config_in(tmp_path, pipelines={"tiny": {"time_limit_seconds": 20}})
    assert limits.time_limits(config, own) == {"tiny": timedelta(seconds=20)}


def test_a_pipeline_that_takes_down_who_loads_it_is_left_out_by_the_next(tmp_path: Path) -> None:
    with hold_numbered(tmp_path, "worker") as worker:
        mark = LoadingMark(worker, tmp_path)
        assert mark.left_behind() == set()
        with mark.around("fine", nullcontext()):
            pass
        # a process that is killed in it leaves it at once
        killed = mark.around("bad", nullcontext())
        killed.__enter__()
        with capture_logs() as logs:
            assert LoadingMark(worker, tmp_path).left_behind() == {"bad"}
        assert [entry["event"] for entry in logs] == ["pipeline_not_loaded"]
        forget_loading(tmp_path)
        assert LoadingMark(worker, tmp_path).left_behind() == set()
