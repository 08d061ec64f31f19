"""The supervisor: what dies is started again and reported, and everything ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.serve.supervisor import Patience, Supervisor, role_commands
from tests.peers.ports import wait_for

LIVES = "import sys; open({mark!r}, 'a').write('x'); sys.stdin.read()"
DIES = "open({mark!r}, 'a').write('x'); raise SystemExit({status})"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "open({mark!r}, 'a').write('x'); time.sleep(60)"
)


class ManualTime:
    """Monotonic seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def role(code: str, mark: Path, **values: object) -> Sequence[str]:
    """A role that is a line of Python; it leaves an x in `mark` at every start."""
    return (sys.executable, "-c", code.format(mark=str(mark), **values))


def starts(mark: Path) -> int:
    return len(mark.read_text()) if mark.exists() else 0


@contextmanager
def running(supervisor: Supervisor) -> Iterator[list[int]]:
    """Run it in a thread; what it returned is in the list after the end."""
    returned: list[int] = []
    thread = threading.Thread(target=lambda: returned.append(supervisor.run()))
    thread.start()
    try:
        yield returned
    finally:
        supervisor.stop()
        thread.join(30)
        assert not thread.is_alive()


def died(logs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [entry for entry in logs if entry["event"] == "role_died"]


def test_a_role_that_is_killed_is_started_again_at_once_and_reported(tmp_path: Path) -> None:
    mark, other = tmp_path / "mark", tmp_path / "other"
    supervisor = Supervisor({"receiver": role(LIVES, mark), "worker": role(LIVES, other)})
    with capture_logs() as logs, running(supervisor):
        wait_for("both roles", lambda: starts(mark) and starts(other))
        pid = next(e["pid"] for e in logs if e["event"] == "role_started")
        os.kill(pid, signal.SIGKILL)
        wait_for("the restart", lambda: starts(mark) == 2)
    assert starts(other) == 1
    (told,) = died(logs)
    assert (told["child"], told["status"]) == ("receiver", "signal SIGKILL")
    assert told["restart_in_seconds"] == 0


def test_a_role_that_keeps_dying_is_started_less_and_less_often(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    time = ManualTime()
    patience = Patience(first=1, longest=4)
    supervisor = Supervisor(
        {"worker": role(DIES, mark, status=1)}, patience=patience, monotonic=time
    )
    waits = []
    with capture_logs() as logs, running(supervisor):
        for failures in range(1, 7):
            wait_for(f"failure {failures}", lambda n=failures: len(died(logs)) == n)  # type: ignore[misc]
            waits.append(died(logs)[-1]["restart_in_seconds"])
            # the clock stands: nothing more may be started until it moves
            assert starts(mark) == failures
            time.now += waits[-1]
    assert waits == [0, 1, 2, 4, 4, 4]


def test_a_role_that_ran_well_for_a_while_has_its_failures_counted_anew(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    time = ManualTime()
    supervisor = Supervisor(
        {"worker": role(LIVES, mark)}, patience=Patience(settled_after=10), monotonic=time
    )
    with capture_logs() as logs, running(supervisor):
        for number in range(1, 4):
            wait_for("the start", lambda n=number: starts(mark) == n)  # type: ignore[misc]
            time.now += 11
            pid = [e["pid"] for e in logs if e["event"] == "role_started"][-1]
            os.kill(pid, signal.SIGTERM)
            wait_for("its end", lambda n=number: len(died(logs)) == n)  # type: ignore[misc]
    assert [entry["restart_in_seconds"] for entry in died(logs)] == [0, 0, 0]


def test_a_role_that_cannot_be_started_is_reported_and_waited_for(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    time = ManualTime()
    commands = {"worker": [str(tmp_path / "no-such-program")], "receiver": role(LIVES, mark)}
    supervisor = Supervisor(commands, monotonic=time)

    def told() -> list[Mapping[str, Any]]:
        return [entry for entry in logs if entry["event"] == "role_not_started"]

    with capture_logs() as logs, running(supervisor):
        wait_for("the second try", lambda: len(told()) == 2)
        wait_for("the other role", lambda: starts(mark) == 1)
        # the clock stands: no third try
        assert len(told()) == 2
        time.now += told()[-1]["restart_in_seconds"]
        wait_for("the third try", lambda: len(told()) == 3)
    assert {entry["why"] for entry in told()} == {"No such file or directory"}
    assert [entry["restart_in_seconds"] for entry in told()] == [0, 1, 2]


def test_stopping_ends_every_role_also_one_that_does_not_listen(tmp_path: Path) -> None:
    good, deaf = tmp_path / "good", tmp_path / "deaf"
    supervisor = Supervisor(
        {"receiver": role(LIVES, good), "worker": role(DEAF, deaf)}, patience=Patience(ending=0.2)
    )
    with capture_logs() as logs, running(supervisor) as returned:
        wait_for("both roles", lambda: starts(good) and starts(deaf))
    assert returned == [0]
    pids = [entry["pid"] for entry in logs if entry["event"] == "role_started"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert [entry["child"] for entry in logs if entry["event"] == "role_killed"] == ["worker"]


def test_a_role_that_refuses_its_configuration_ends_the_node_with_its_status(
    tmp_path: Path,
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    commands = {"receiver": role(LIVES, good), "worker": role(DIES, bad, status=2)}
    with capture_logs() as logs:
        assert Supervisor(commands).run() == 2
    assert starts(bad) == 1
    pids = [entry["pid"] for entry in logs if entry["event"] == "role_started"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_configuration_broken_later_does_not_end_a_node_that_runs(tmp_path: Path) -> None:
    mark, broken = tmp_path / "mark", tmp_path / "broken"
    code = (
        "import os, sys; open({mark!r}, 'a').write('x'); "
        "os.path.exists({broken!r}) and sys.exit(2); sys.stdin.read()"
    )
    time = ManualTime()
    supervisor = Supervisor({"worker": role(code, mark, broken=str(broken))}, monotonic=time)
    with capture_logs() as logs, running(supervisor) as returned:
        wait_for("the start", lambda: starts(mark) == 1)
        time.now += 60
        broken.touch()
        os.kill(next(e["pid"] for e in logs if e["event"] == "role_started"), signal.SIGKILL)
        wait_for("the refusal", lambda: any(e["status"] == "exit 2" for e in died(logs)))
        assert returned == []
        broken.unlink()
        time.now += 60
        wait_for("the restart", lambda: starts(mark) == 3)
    assert returned == [0]


def test_a_reload_that_raises_ends_no_role(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    taken: list[str] = []

    def take() -> bool:
        taken.append("asked")
        if len(taken) == 1:
            raise KeyError("[key]")
        return False

    supervisor = Supervisor({"receiver": role(LIVES, mark)}, take=take)
    with capture_logs() as logs, running(supervisor) as returned:
        wait_for("the start", lambda: starts(mark) == 1)
        for number in (1, 2):
            supervisor.reload()
            wait_for("the reload", lambda n=number: len(taken) == n)  # type: ignore[misc]
        assert returned == []
    assert returned == [0]
    assert starts(mark) == 1
    assert not died(logs)
    told = [entry for entry in logs if entry["event"] == "configuration_refused"]
    assert [entry["error"] for entry in told] == ["KeyError"]


_PARENT = """
import sys
from pathlib import Path
from dicom_node.serve.supervisor import Supervisor
code = '''
import os, sys, threading
from pathlib import Path
from dicom_node.serve.supervisor import stop_with_parent
stop = threading.Event()
stop_with_parent(stop.set)
Path(sys.argv[1]).write_text(str(os.getpid()))
stop.wait()
Path(sys.argv[2]).write_text("ended")
'''
Supervisor({"worker": (sys.executable, "-c", code, sys.argv[1], sys.argv[2])}).run()
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_role_ends_in_good_order_when_its_supervisor_dies(tmp_path: Path, by: int) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(began), str(ended)], stderr=subprocess.DEVNULL
    ) as parent:
        wait_for("the role", lambda: began.exists() and began.read_text())
        parent.send_signal(by)
        parent.wait()
    wait_for("the role's own end", ended.exists)
    wait_for("its process to be gone", lambda: not Path(f"/proc/{began.read_text()}").exists())


def test_each_role_is_this_program_with_its_name() -> None:
    commands = role_commands({"receiver": 1, "worker": 1}, Path("/etc/node.yaml"))
    assert list(commands) == ["receiver", "worker"]
    assert list(commands["worker"])[1:] == [
        *("-m", "dicom_node", "serve", "--role", "worker", "--config", "/etc/node.yaml")
    ]


def test_of_a_role_with_several_processes_each_is_numbered() -> None:
    commands = role_commands({"receiver": 2, "worker": 1}, Path("/etc/node.yaml"))
    assert list(commands) == ["receiver-0", "receiver-1", "worker"]
    assert commands["receiver-0"] == commands["receiver-1"]
    assert "receiver" in commands["receiver-1"]


def test_only_workers_may_have_a_heap_for_each_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    tells = (
        "import os, sys; "
        "open({mark!r}, 'a').write(os.environ.get('MALLOC_ARENA_MAX', 'any')); sys.stdin.read()"
    )
    marks = {name: tmp_path / name for name in ("coordinator", "worker-1")}
    supervisor = Supervisor({name: role(tells, mark) for name, mark in marks.items()})
    with running(supervisor):
        wait_for("both roles", lambda: all(map(starts, marks.values())))
    assert {name: mark.read_text() for name, mark in marks.items()} == {
        "coordinator": "2",
        "worker-1": "any",
    }
