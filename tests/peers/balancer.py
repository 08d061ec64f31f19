"""A TCP load balancer in front of receivers: the next connection goes to the next of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Balancer:
    """Hands connections round; one whose receiver refuses goes to the next.

    Attributes:
        port: Where it listens.
        handed: The port that each connection went to, in order.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self.handed: list[int] = []
        self.port = 0

    async def serve(self, ready: threading.Event, over: asyncio.Event) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await over.wait()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._ports:
            port = self._ports.pop(0)
            self._ports.append(port)
            try:
                up = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                continue
            self.handed.append(port)
            await asyncio.gather(_pass(reader, up[1]), _pass(up[0], writer))
            return
        writer.close()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    # a receiver that is killed breaks the connection: so it does for the sender
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    with contextlib.suppress(ConnectionError):
        target.close()
        await target.wait_closed()


@contextmanager
def running_balancer(ports: Sequence[int]) -> Iterator[Balancer]:
    """Run one on a free loopback port, in a thread."""
    balancer, ready = Balancer(ports), threading.Event()
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(balancer.serve(ready, over),), name="balancer"
    )
    thread.start()
    try:
        assert ready.wait(10)
        yield balancer
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
