"""A signal's work is done whatever lock the main thread holds at that moment."""

from __future__ import annotations

import subprocess
import sys

_PROCESS = """
import os, signal, threading
from dicom_node.serve.live import on_hangup
from dicom_node.serve.supervisor import stop_with_parent

lock = threading.Lock()
done = {kind: threading.Event() for kind in ("stop", "reload")}

def work(kind):
    with lock:
        done[kind].set()

stop_with_parent(lambda: work("stop"))
on_hangup(lambda: work("reload"))
with lock:
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
print(all(event.wait(30) for event in done.values()))
"""


def test_a_handler_does_not_wait_for_a_lock_of_the_main_thread() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROCESS], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == "True"
