"""A reserve of files whose blocks are on the disk already: an image is durable by one write.

A new file is durable when its bytes *and* the file system's record of them are: two waits, and
the second goes through the file system's journal, which has a thread of its own. A file of the
reserve has been written once, with zeros, and synchronised: name, blocks and length are durable
before any image comes. An image of at most `ROOM` bytes is collected in memory while it comes,
looked at there, sealed (`store.seal`), and written over the zeros past the page cache
(O_DIRECT | O_DSYNC): when that call returns, the disk has flushed it, and there is nothing else
that must become durable.

What survives a crash:

- The image is whole on the disk before its sender hears of it. A file that was only written in
  part does not fit the checksum in its seal, and is removed by `WritingFolder.clean_up`.
- The file is moved to the inbox after that, while the sender has its answer already. That need
  not be durable, or happen at all: `clean_up` finds a sealed file and moves it.
- In the inbox it is still as long as the room. To cut it takes ten times as long as to move it, so
  whoever indexes it does that (`Spool.finish`), when the burst is over.
- Nothing is written before an image is whole and its header right. A file of the reserve is used
  for one image, never again, so that no older image can be taken for it.
- O_DSYNC is the kernel's promise whatever the file system does: on one that never writes in place
  (btrfs, ZFS) the reserve gains nothing and promises the same.

Filled when no image came for a moment, at half of the disk's pace, so that it is in nobody's
way. While it is empty, or the image is longer, or the file system knows no O_DIRECT, images are
written as `store.incoming` does it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from dicom_node.store.files import sync_folder
from dicom_node.store.incoming import UNFINISHED

_log = structlog.get_logger()

ROOM: Final = 640 * 1024
"""Bytes of a file: a CT or MR image with its header; a multiple of every disk's block."""
_DIRECT: Final = getattr(os, "O_DIRECT", 0)
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | _DIRECT
_FIRST: Final = 16
_BATCH: Final = 16
_SHARE: Final = 64
"""The reserve takes at most this part of the free space."""
_QUIET: Final = 0.25
_REST: Final = 1
_SPARE_BUFFERS: Final = 4


@dataclass(frozen=True, slots=True)
class Reserved:
    """A file of the reserve in use, and memory to collect an image in."""

    path: str
    fd: int
    buffer: mmap.mmap


def no_reserve(folder: Path) -> str:
    """Return why a folder's file system takes no direct writes; "" when it does."""
    path = folder / f".{uuid.uuid4().hex}{UNFINISHED}"
    try:
        fd = os.open(path, _NEW | os.O_DSYNC, 0o640)
        try:
            os.pwrite(fd, mmap.mmap(-1, mmap.PAGESIZE), 0)
        finally:
            os.close(fd)
    except OSError as error:
        return error.strerror or "the disk refused"
    finally:
        with contextlib.suppress(OSError):  # it may be there, although it could not be opened
            path.unlink()
    return "" if _DIRECT else "this system has none"


class Reserve:
    """Files that wait for images, in a folder that is this process's own; safe for threads.

    Args:
        folder: It exists, and its name is durable.
        size: Of all files, in bytes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._most = size // ROOM if _DIRECT else 0
        self._zeros = mmap.mmap(-1, ROOM)
        self._ready: list[str] = []
        self._unmoved: list[tuple[str, str]] = []
        self._buffers: list[mmap.mmap] = []
        self._lock = threading.Lock()
        self._filler: threading.Thread | None = None
        self._last_use = -_QUIET
        self._closed = threading.Event()
        self._told = False

    def begin(self) -> None:
        """Make the first files now, the others in the background."""
        if self._make(_FIRST):
            self._have_filled()

    def take(self) -> Reserved | None:
        """Return a file for an image; None when there is none."""
        self._last_use = time.monotonic()
        with self._lock:
            path = self._ready.pop() if self._ready else None
            buffer = self._buffers.pop() if self._buffers else None
        self._have_filled()
        if path is None:
            return None
        try:
            fd = os.open(path, os.O_WRONLY | _DIRECT | os.O_DSYNC | os.O_CLOEXEC)
        except OSError as error:
            self._tell(error)
            return None
        return Reserved(path, fd, buffer or mmap.mmap(-1, ROOM))

    def give_back(self, reserved: Reserved, *, used: bool) -> None:
        """Take back the memory, and the file too when nothing was written to it."""
        os.close(reserved.fd)
        with self._lock:
            if not used and not self._closed.is_set():
                self._ready.append(reserved.path)
            if len(self._buffers) < _SPARE_BUFFERS:
                self._buffers.append(reserved.buffer)

    def move(self, path: str, target: str) -> None:
        """Move a written file; when the disk refuses, later."""
        try:
            os.rename(path, target)
        except OSError as error:
            _log.error("image_not_moved", file=os.path.basename(path), why=error.strerror)
            with self._lock:
                self._unmoved.append((path, target))
            self._have_filled()

    @property
    def closed(self) -> bool:
        """Whether the folder is being given up, with what is unfinished in it."""
        return self._closed.is_set()

    def close(self) -> None:
        """Fill no more; the files are left to whoever removes the folder."""
        self._closed.set()
        if self._filler is not None:
            self._filler.join()

    def _have_filled(self) -> None:
        """Start the thread that fills the reserve, unless it runs."""
        with self._lock:
            running = self._filler is not None and self._filler.is_alive()
            if self._most and not running and not self._closed.is_set():
                self._filler = threading.Thread(
                    target=self._fill_when_quiet, name="reserve", daemon=True
                )
                self._filler.start()

    def _fill_when_quiet(self) -> None:
        pause = _QUIET
        while not self._closed.wait(pause):
            pause = _QUIET
            begin = time.monotonic()
            if begin - self._last_use >= _QUIET:
                if not self._move_again() and not self._make(_BATCH):
                    return
                pause = _REST * (time.monotonic() - begin)

    def _move_again(self) -> bool:
        """Move what could not be moved; tells whether there was any."""
        with self._lock:
            unmoved, self._unmoved = self._unmoved, []
        for path, target in unmoved:
            self.move(path, target)
        return bool(unmoved)

    def _make(self, number: int) -> bool:
        """Make so many files more, or remove some where space is short; tells whether to go on."""
        try:
            stat = os.statvfs(self._folder)
            most = min(self._most, stat.f_bavail * stat.f_frsize // _SHARE // ROOM)
            with self._lock:
                missing = most - len(self._ready)
                surplus = [self._ready.pop() for _ in range(-missing)]
            for path in surplus:
                os.unlink(path)
            made = self._written(min(number, missing))
        except OSError as error:
            self._tell(error)
            return False
        with self._lock:
            self._ready += made
        return bool(made)

    def _written(self, number: int) -> list[str]:
        """Make files of zeros; returns their paths when all of them are durable."""
        paths = [f"{self._folder}/{uuid.uuid4().hex}{UNFINISHED}" for _ in range(number)]
        opened: list[int] = []
        try:
            for path in paths:
                opened.append(os.open(path, _NEW, 0o640))
                if os.pwrite(opened[-1], self._zeros, 0) != ROOM:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # all are written by now: the first of them waits, for the others, too
            for fd in opened:
                os.fsync(fd)
            if paths:
                sync_folder(self._folder)
        except OSError:
            for path in paths:
                with contextlib.suppress(OSError):  # the next start removes it
                    os.unlink(path)
            raise
        finally:
            for fd in opened:
                os.close(fd)
        return paths

    def _tell(self, error: OSError) -> None:
        """Say it once: images are kept as safely without, only slower."""
        if not self._told and not self._closed.is_set():
            self._told = True
            _log.warning("reserve_not_made", why=error.strerror, effect="images take longer")
