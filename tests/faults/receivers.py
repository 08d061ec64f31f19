"""Receivers to be killed by the hundred: forked from a process that has everything imported.

`python -m tests.faults.receivers` reads a line of JSON for each receiver and answers with one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.ports import wait_for


@dataclass(frozen=True)
class Forked:
    """A receiver in a process of its own; `tls_port` is 0 without TLS."""

    pid: int
    port: int
    tls_port: int

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        wait_for("the receiver's death", lambda: not Path(f"/proc/{self.pid}").exists())

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Nursery:
    """Forks receivers; a context manager that leaves none behind.

    Args:
        folder: Logs go here.
        before: A command that is put before Python's, to run it in surroundings of its own.
    """

    def __init__(self, folder: Path, before: Sequence[str] = ()) -> None:
        self.log = folder / "receivers.log"
        self._before = before
        self._process: subprocess.Popen[str] | None = None
        self._born: list[Forked] = []

    def __enter__(self) -> Nursery:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._before, sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        for receiver in self._born:
            if Path(f"/proc/{receiver.pid}").exists():
                receiver.kill()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, spool: Path, **settings: Any) -> Forked:
        """Fork a receiver and wait until it listens.

        Args:
            settings: Of `ReceiverSettings`, as plain values; `tls` as that of `TlsSettings`;
                `file_size` is the longest file that it may write.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"spool": str(spool), **settings}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        receiver = Forked(**json.loads(line))
        self._born.append(receiver)
        return receiver


@contextmanager
def one_receiver(folder: Path, **settings: Any) -> Iterator[Forked]:
    """One receiver on `folder/spool`, in ordinary surroundings."""
    with Nursery(folder) as nursery:
        yield nursery.start(folder / "spool", **settings)


def _run(chosen: Mapping[str, Any]) -> None:
    import resource

    from dicom_node.clock import SystemClock
    from dicom_node.receive import Receiver, ReceiverSettings, TlsSettings
    from dicom_node.store.spool import Spool

    settings = dict(chosen)
    spool = Spool(Path(settings.pop("spool")))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    if size := settings.pop("file_size", 0):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if tls := settings.pop("tls", None):
        settings["tls"] = TlsSettings(Path(tls.pop("certificate")), Path(tls.pop("key")), **tls)
    # a signal that is waited for needs no handler, which could come upon a lock that it takes
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    receiver = Receiver(
        ReceiverSettings(ae_titles=("AINODE",), promiscuous=True, **settings),
        spool,
        lambda _: None,
        SystemClock(),
    )
    receiver.start()
    tls_port = receiver.tls_port if "tls" in settings else 0
    print(json.dumps({"pid": os.getpid(), "port": receiver.port, "tls_port": tls_port}), flush=True)
    signal.sigwait({signal.SIGTERM})
    receiver.stop()


def main() -> None:
    """Fork a receiver for each line, until the end of the input."""
    import dicom_node.receive.listener  # noqa: F401 - its import is what takes time
    from dicom_node.logs import set_up_logging

    set_up_logging("receiver", json=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
    for line in sys.stdin:
        if os.fork() == 0:
            status = 1
            try:
                os.close(0)
                _run(json.loads(line))
                status = 0
            finally:
                os._exit(status)


if __name__ == "__main__":
    main()
