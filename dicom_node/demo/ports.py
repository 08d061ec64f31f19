"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

RANGE = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections, and to a server that asks for any
port (from 32768 on): nobody takes one of these by chance between now and its use. Processes that
each ask for many beside each other take a part of it each."""
_TRIES: Final = 1000


def free_port() -> int:
    """Return a port that is free now.

    Raises:
        OSError: None was found.
    """
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        port = chance.choice(RANGE)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port from {RANGE[0]} to {RANGE[-1]} is free on the loopback interface")
