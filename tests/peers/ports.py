"""Free loopback ports, and waiting for a condition with a deadline."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T], deadline: float = 180) -> T:
    """Wait until `condition()` is true and return its value.

    Raises:
        AssertionError: It was not within `deadline` seconds; the message names `what`.
    """
    pause = threading.Event()
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {deadline} s in vain for {what}"
        pause.wait(0.05)
    return value


def listens(port: int) -> bool:
    """Tell whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
