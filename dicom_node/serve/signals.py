"""Lets a signal's handler ask for work that takes locks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


def by_thread(work: Callable[[], None]) -> Callable[[], None]:
    """Return what a signal's handler may call: a thread of its own then does the work.

    A handler runs between any two steps of the main thread, also while that one holds the lock of
    an Event that it waits for. `Event.set` in the handler would take that lock and never get it:
    the process would neither work on nor end. `SimpleQueue.put` is made for such places (Python
    library reference, `queue`: it is reentrant).
    """
    asked: SimpleQueue[None] = SimpleQueue()

    def _work() -> None:
        while True:
            asked.get()
            work()

    threading.Thread(target=_work, name="signals", daemon=True).start()
    return lambda: asked.put(None)
