"""A bell among the processes of one host: named pipes in a folder, one for each who waits.

It tells nothing but that there may be something: what there is, the waiter looks for itself, and
now and then it looks without being told. So a bell that is lost costs a moment and no work.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import threading
import time
import weakref
from pathlib import Path
from typing import Final

import structlog

_log = structlog.get_logger()

_SLICE: Final = 0.1
"""Seconds after which a waiter looks whether it is to end."""
_PIPE: Final = 65536
_NUMBERS: Final = itertools.count()


class Doorbell:
    """Rings every waiter of a name, whichever process it is in.

    Args:
        folder: On a file system of this host; made when somebody waits.
        patience: Seconds that a waiter waits at least, as it would be told.
    """

    def __init__(self, folder: Path, name: str, patience: float = 0) -> None:
        self._folder = folder
        self._name = name
        self._patience = patience

    def ring(self) -> None:
        """Let those go who wait; never fails and never waits."""
        # without the folder, nobody waits; without the right, they look by themselves
        with contextlib.suppress(OSError):
            for pipe in self._folder.glob(f"{self._name}.*"):
                _ring(pipe)

    def bell(self) -> Ear | None:
        """Return what one waiter waits on; None: no pipe can be made here."""
        own = f"{self._name}.{os.getpid()}.{next(_NUMBERS)}"
        # under its name it must be open, or who rings would take it for a dead one's
        hidden, pipe = self._folder / f".{own}", self._folder / own
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            hidden.unlink(missing_ok=True)
            os.mkfifo(hidden, 0o600)
            fd = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            hidden.rename(pipe)
        except OSError as error:
            _log.warning("no_doorbell", folder=str(self._folder), why=error.strerror)
            return None
        return Ear(fd, pipe, self._patience)


class Ear:
    """One waiter's end of the bell; it keeps what was rung while the waiter worked."""

    def __init__(self, fd: int, pipe: Path, patience: float) -> None:
        self._fd = fd
        self._patience = patience
        self._close = weakref.finalize(self, _take_down, fd, pipe)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait until it rings, `stop` is set, or it is time to look all the same.

        Returns:
            Whether it rang.
        """
        rung = select.poll()
        rung.register(self._fd, select.POLLIN)
        end = time.monotonic() + max(self._patience, seconds)
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if rung.poll(1000 * min(_SLICE, left)):
                os.read(self._fd, _PIPE)
                return True
        return False

    def close(self) -> None:
        self._close()


def _ring(pipe: Path) -> None:
    try:
        fd = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # nobody has it open: its process was killed
        pipe.unlink(missing_ok=True)
        return
    try:
        # a pipe that is full has rung
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b"!")
    finally:
        os.close(fd)


def _take_down(fd: int, pipe: Path) -> None:
    os.close(fd)
    with contextlib.suppress(OSError):
        pipe.unlink()
