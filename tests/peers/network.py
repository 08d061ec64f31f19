"""A network that can be cut: a TCP proxy before a loopback port."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Network:
    """Passes connections on to a loopback port, until it is cut.

    While it is cut, nothing that is sent arrives and nobody is told, as when a cable is pulled;
    connections of that time are reset when it is mended.

    Attributes:
        port: Where the other side is reached.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._whole = threading.Event()
        self._whole.set()
        self._cuts = 0
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self) -> None:
        """Let nothing through."""
        self._cuts += 1
        self._whole.clear()

    def mend(self) -> None:
        """Let new connections through; those of before are reset."""
        self._whole.set()

    def close(self) -> None:
        """Listen no more; connections end with their programs."""
        self.mend()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        self._whole.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            _reset(near)
            return
        far.settimeout(None)
        cuts = self._cuts
        self._start(self._pass_on, near, far, cuts)
        self._start(self._pass_on, far, near, cuts)

    def _pass_on(self, one: socket.socket, other: socket.socket, cuts: int) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self._whole.wait()
                if self._cuts != cuts:
                    break
                other.sendall(data)
            else:
                other.shutdown(socket.SHUT_WR)
                return
        _reset(one)
        _reset(other)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@contextmanager
def network_to(target: int) -> Iterator[Network]:
    """A network before a port, until the end of the block."""
    network = Network(target)
    try:
        yield network
    finally:
        network.close()
