"""A receiver in a process of its own, to be killed; `python -m ... SPOOL [setting=number ...]`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class ReceiverProcess:
    """A running receiver.

    Attributes:
        log: Its log, growing.
    """

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self) -> dict[str, int]:
        """Resident memory in bytes: now, and at its highest."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE)
        return {name: int(number) * 1024 for name, number in found}


@contextmanager
def receiver_process(folder: Path, *settings: str) -> Iterator[ReceiverProcess]:
    """Start a receiver whose spool is `folder/spool`; it is killed at the end."""
    log = folder / f"receiver-{len(list(folder.glob('receiver-*')))}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder / "spool"), *settings],
            stdout=subprocess.PIPE,
            stderr=out,
        )
        try:
            assert process.stdout
            port = int(process.stdout.readline())
            yield ReceiverProcess(process, port, log)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def main() -> None:
    from dicom_node.clock import SystemClock
    from dicom_node.logs import set_up_logging
    from dicom_node.receive import Receiver, ReceiverSettings
    from dicom_node.store.spool import Spool

    set_up_logging("receiver", json=True)
    # a signal that is waited for needs no handler, which could come upon a lock that it takes
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    chosen = {name: int(value) for name, value in (word.split("=") for word in sys.argv[2:])}
    receiver = Receiver(
        ReceiverSettings(ae_titles=("AINODE",), promiscuous=True, **chosen),
        Spool(Path(sys.argv[1])),
        lambda _: None,
        SystemClock(),
    )
    receiver.start()
    print(receiver.port, flush=True)
    signal.sigwait({signal.SIGTERM})
    receiver.stop()


if __name__ == "__main__":
    main()
