"""The supervisor: starts each role as a process, restarts what dies, and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from dicom_node.logs import error_facts
from dicom_node.serve.signals import by_thread

_log = structlog.get_logger()

ROLE_EXIT_CONFIG: Final = 2
"""Exit status of a role whose configuration is wrong: starting it again would not help."""

SUPERVISED: Final = "DICOM_NODE_SUPERVISED"
"""Set in a child's environment: its standard input is the supervisor's pipe."""

CALM: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Of the children: threads of OpenMP that wait for each other sleep. By default they spin, which
on a machine whose cores are shared (by receivers, by other workers) made a knee take four times
as long."""

FEW_ARENAS: Final = {"MALLOC_ARENA_MAX": "2"}
"""Of the children that compute nothing: with many threads, of which one at a time runs Python, the
C library keeps up to eight heaps a core, and each keeps what it once needed (31 MB of a
coordinator's 148)."""

FRUGAL: Final = {**FEW_ARENAS, "MALLOC_MMAP_THRESHOLD_": "262144"}
"""The same of those that receive no images: with a fixed threshold, which it would else raise to
32 MB, the C library gives large blocks back to the system when they are freed, instead of keeping
the gap that they leave. Asking for them anew costs time, which a sender would wait for."""

CHILD: Final = "DICOM_NODE_CHILD"
"""Set in a child's environment: what the supervisor calls it ("worker-1")."""

LAST_STATUS: Final = "DICOM_NODE_LAST_STATUS"
"""Set in a child's environment: how its predecessor ended, negative for a signal."""


def role_commands(roles: Mapping[str, int], config_file: Path) -> dict[str, Sequence[str]]:
    """Return the command that runs each process, by its name.

    Args:
        roles: How many processes each role has; of several the name is numbered from 0.
    """
    return {
        role if number == 1 else f"{role}-{index}": (
            *(sys.executable, "-m", "dicom_node", "serve"),
            *("--role", role, "--config", str(config_file)),
        )
        for role, number in roles.items()
        for index in range(number)
    }


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits, in seconds.

    Attributes:
        first: Before the second restart in a row; doubles with each further one.
        longest: The most between two starts.
        settled_after: A role that lived so long has started well: its failures count anew.
        ending: For all roles together to end after SIGTERM; then they are killed.
    """

    first: float = 1
    longest: float = 10
    settled_after: float = 10
    ending: float = 30


@dataclass(slots=True)
class _Child:
    """One role's process."""

    role: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    has_settled: bool = False
    last_status: int | None = None
    not_before: float = field(default=float("-inf"))


class Supervisor:
    """Keeps one process per role alive until it is told to stop.

    A child reads its standard input, which is a pipe from here: when the supervisor dies, even
    by SIGKILL, the pipe closes and the child ends. A role that dies is started again at once; one
    that dies soon after its start waits longer each time, up to `Patience.longest`.

    Args:
        commands: The command that runs each role, by its name.
        environment: Set for each child, beside our own.
        take: Takes the configuration again; True: the roles are to follow.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        patience: Patience | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] | None = None,
        take: Callable[[], bool] | None = None,
    ) -> None:
        self._children = [_Child(role, command) for role, command in commands.items()]
        self._patience = patience or Patience()
        self._monotonic = monotonic
        self._environment = dict(environment or {})
        self._take = take
        self._stop = threading.Event()
        self._asked = threading.Event()

    def run(self) -> int:
        """Supervise until stopped; returns the exit status.

        A role that refuses its configuration ends the node, but only at its first start: a file
        that somebody breaks later must not take down a node that runs.
        """
        try:
            while not self._stop.is_set():
                for child in self._children:
                    if self._look_after(child) == ROLE_EXIT_CONFIG and not child.has_settled:
                        return ROLE_EXIT_CONFIG
                if self._asked.is_set():
                    self._asked.clear()
                    self._reload()
                self._stop.wait(0.1)
            return 0
        finally:
            self._end_all()

    def stop(self) -> None:
        self._stop.set()

    def reload(self) -> None:
        """Take the configuration again, soon."""
        self._asked.set()

    def _reload(self) -> None:
        try:
            taken = self._take is not None and self._take()
        except Exception as error:  # noqa: BLE001 - the roles go on, whatever a file holds
            _log.error("configuration_refused", **error_facts(error))
            return
        if not taken:
            return
        for child in self._children:
            if child.process is not None:
                child.process.send_signal(signal.SIGHUP)

    def _look_after(self, child: _Child) -> int | None:
        if child.process is None:
            if self._monotonic() >= child.not_before:
                self._start(child)
            return None
        lived = self._monotonic() - child.started
        child.has_settled |= lived >= self._patience.settled_after
        status = child.process.poll()
        if status is None:
            return None
        assert child.process.stdin is not None
        child.process.stdin.close()
        child.process = None
        child.last_status = status
        wait = self._wait_after_failure(child, lived)
        _log.error(
            "role_died",
            child=child.role,
            status=_status(status),
            failures_in_a_row=child.failures,
            restart_in_seconds=wait,
        )
        return status

    def _start(self, child: _Child) -> None:
        ours = {**self._environment, SUPERVISED: "1", CHILD: child.role}
        kind = child.role.partition("-")[0]
        memory = {"worker": {}, "receiver": FEW_ARENAS}.get(kind, FRUGAL)
        environment = {**CALM, **memory, **os.environ, **ours}
        if child.last_status is not None:
            environment[LAST_STATUS] = str(child.last_status)
        # until a role is ready for it, a SIGHUP would end it: it inherits that it is blocked
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            child.process = subprocess.Popen(child.command, stdin=subprocess.PIPE, env=environment)
        except OSError as error:
            wait = self._wait_after_failure(child, 0)
            _log.error(
                "role_not_started",
                child=child.role,
                why=error.strerror,
                failures_in_a_row=child.failures,
                restart_in_seconds=wait,
            )
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        child.started = self._monotonic()
        _log.info("role_started", child=child.role, pid=child.process.pid)

    def _wait_after_failure(self, child: _Child, lived: float) -> float:
        """Count a failure and return how long to wait before the next start."""
        patience = self._patience
        child.failures = 1 if lived >= patience.settled_after else child.failures + 1
        # the exponent is bounded so that the float stays small
        doubled = patience.first * 2 ** min(child.failures - 2, 30)
        wait = 0.0 if child.failures == 1 else min(patience.longest, doubled)
        child.not_before = self._monotonic() + wait
        return wait

    def _end_all(self) -> None:
        """SIGTERM to all at once, then SIGKILL to those that take too long together."""
        running = [(c.role, c.process) for c in self._children if c.process is not None]
        for _, process in running:
            process.send_signal(signal.SIGTERM)
        by = self._monotonic() + self._patience.ending
        for role, process in running:
            try:
                process.wait(timeout=max(0.0, by - self._monotonic()))
            except subprocess.TimeoutExpired:
                _log.error("role_killed", child=role, why="it did not end in time")
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _status(status: int) -> str:
    if status >= 0:
        return f"exit {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def stop_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM or SIGINT, and when the supervisor's end of our pipe closes."""
    ask = by_thread(stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ask())
    if SUPERVISED not in os.environ:
        return

    def _watch() -> None:
        while os.read(0, 1024):
            pass
        stop()

    threading.Thread(target=_watch, name="watch-supervisor", daemon=True).start()
