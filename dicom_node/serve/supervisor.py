"""The supervisor: starts each role as a process, restarts what dies, and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

_log = structlog.get_logger()

ROLE_EXIT_CONFIG: Final = 2
"""Exit status of a role whose configuration is wrong: starting it again would not help."""

_SUPERVISED: Final = "DICOM_NODE_SUPERVISED"
"""Set in a child's environment: its standard input is the supervisor's pipe."""


@dataclass(slots=True)
class Child:
    """One role's process."""

    role: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = field(default=0.0)


class Supervisor:
    """Keeps one process per role alive until it is told to stop.

    A child reads its standard input, which is a pipe from here: when the supervisor dies, even
    by SIGKILL, the pipe closes and the child ends. A role that dies is started again; one that
    dies soon after its start waits longer each time, up to `longest_wait`.
    """

    def __init__(
        self,
        roles: Sequence[str],
        config_file: Path,
        *,
        longest_wait: timedelta = timedelta(seconds=30),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = [
            Child(
                role,
                (
                    *(sys.executable, "-m", "dicom_node", "serve"),
                    *("--role", role, "--config", str(config_file)),
                ),
            )
            for role in roles
        ]
        self._longest_wait = longest_wait.total_seconds()
        self._monotonic = monotonic
        self._stop = threading.Event()

    def run(self) -> int:
        """Supervise until stopped; returns the exit status."""
        try:
            while not self._stop.is_set():
                for child in self._children:
                    if self._look_after(child) == ROLE_EXIT_CONFIG:
                        return ROLE_EXIT_CONFIG
                self._stop.wait(0.1)
            return 0
        finally:
            self._end_all()

    def stop(self) -> None:
        self._stop.set()

    def _look_after(self, child: Child) -> int | None:
        if child.process is None:
            if self._monotonic() >= child.not_before:
                self._start(child)
            return None
        status = child.process.poll()
        if status is None:
            return None
        lived = self._monotonic() - child.started
        child.failures = child.failures + 1 if lived < 10 else 1
        wait = 0.0 if child.failures == 1 else min(self._longest_wait, 0.5 * 2**child.failures)
        child.not_before = self._monotonic() + wait
        child.process = None
        _log.error("role_died", child=child.role, status=_status(status), restart_in_seconds=wait)
        return status

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(
            child.command, stdin=subprocess.PIPE, env={**os.environ, _SUPERVISED: "1"}
        )
        child.started = self._monotonic()
        _log.info("role_started", child=child.role, pid=child.process.pid)

    def _end_all(self) -> None:
        running = [child for child in self._children if child.process is not None]
        for child in running:
            assert child.process is not None
            child.process.send_signal(signal.SIGTERM)
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                _log.error("role_killed", child=child.role, why="it did not end in 30 seconds")
                child.process.kill()
                child.process.wait()


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit {status}"


def stop_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM or SIGINT, and when the supervisor's end of our pipe closes."""

    def _on_signal(_: int, __: object) -> None:
        stop()

    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, _on_signal)
    if _SUPERVISED not in os.environ:
        return

    def _watch() -> None:
        while os.read(0, 1024):
            pass
        stop()

    threading.Thread(target=_watch, name="watch-supervisor", daemon=True).start()
