"""Work done ahead: the next images are read and prepared while the network runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(make: Callable[[], T | None], depth: int = 2) -> Iterator[T]:
    """Yield what `make` returns until it returns None, the next being made in a thread meanwhile.

    One thread: the parts of a bundle that prepare images never run twice at a time. What `make`
    raises is raised here, when its turn has come.

    Args:
        depth: So many things wait at most: they take memory.
    """
    coming: deque[Future[T | None]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
    try:
        coming.extend(pool.submit(make) for _ in range(depth))
        while (made := coming.popleft().result()) is not None:
            coming.append(pool.submit(make))
            yield made
    finally:
        pool.shutdown(cancel_futures=True)


def in_turn(make: Callable[[], T | None]) -> Iterator[T]:
    """Yield the same, one after the other: for volumes, of which memory holds one."""
    while (made := make()) is not None:
        yield made
