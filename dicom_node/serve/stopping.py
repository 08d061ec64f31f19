"""Ends what a job runs before it is done, when nobody wants its result any more."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class UnwantedError(BaseException):
    """Raised in the midst of a job. No `Exception`: a pipeline's own handlers let it pass."""


class Stoppable:
    """Context that another thread can end: UnwantedError is raised inside, between two steps.

    By SIGUSR1, which only a process's main thread can take: in another thread what is inside
    runs to its end. Inside there must be nothing that may not be left half done, such as a
    transaction. What is asked before begins with the error; what is asked too late is ignored.
    """

    def __init__(self) -> None:
        self._asked = False
        self._inside = False
        self._thread = threading.get_ident()
        self._can_stop = threading.current_thread() is threading.main_thread()

    def stop(self) -> None:
        """End it; to be called from another thread."""
        self._asked = True
        if self._inside:
            signal.pthread_kill(self._thread, signal.SIGUSR1)

    def __enter__(self) -> Self:
        if self._can_stop:
            # it stays in place: a signal that is still on its way then must not kill the process
            signal.signal(signal.SIGUSR1, self._on_signal)
            self._inside = True
            self._leave_if_asked()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside = False

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self._leave_if_asked()

    def _leave_if_asked(self) -> None:
        if self._asked and self._inside:
            self._inside = False
            raise UnwantedError
