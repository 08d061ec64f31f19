"""Files on their way into the spool: one fsync each, and nothing left when a writer dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.store.files import start_write_back, sync_folder
from dicom_node.store.seal import is_whole, new_checksum, seal_of

_UNFINISHED: Final = ".part"
_FEWEST_PREPARED: Final = 4
_MOST_PREPARED: Final = 64
_WRITE_BACK_EVERY: Final = 512 * 1024
"""Images go to the disk while they come: the fsync at their end has less to wait for."""
_FIRST_PAGE: Final = 4096
"""Not written early, as the seal comes into it at the end."""


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """What `clean_up` found of writers that died.

    Attributes:
        kept: Whole files, which the senders may have been told of.
        removed: Unfinished ones, which nobody was told of.
    """

    kept: int
    removed: int


class Incoming:
    """A file that is being received; `keep` makes it durable, anything else removes it.

    Bytes go to the file as they come; nothing but the present piece is held in memory.
    """

    def __init__(self, prepared: str, fd: int, inbox: Path, head: bytes) -> None:
        self._prepared = prepared
        self._fd = fd
        self._inbox = inbox
        self._head = head
        self._checksum = new_checksum()
        self._on_its_way = _FIRST_PAGE
        self.size = 0
        try:
            self._append(head)
        except SpoolError:
            self.discard()
            raise

    def fileno(self) -> int:
        """The open file, for reading back what was written."""
        return self._fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes of the data set.

        Raises:
            SpoolError: The disk refused.
        """
        self._append(data)
        self._checksum.update(data)

    def keep(self) -> Path:
        """Seal the file, make it durable and move it to the inbox; returns its path there.

        Raises:
            SpoolError: The disk refused; nothing is left behind.
        """
        name = os.path.basename(self._prepared).removesuffix(_UNFINISHED)
        target = f"{self._inbox}/{name}.dcm"
        seal = seal_of(self._head, self.size, self._checksum.hexdigest())
        try:
            os.pwrite(self._fd, seal.encoded(), 0)
            os.fsync(self._fd)
            os.rename(self._prepared, target)
        except OSError as error:
            self.discard()
            raise refused(self._inbox, error) from error
        self._close()
        return Path(target)

    def discard(self) -> None:
        """Remove what was written so far; harmless after `keep`, and on a disk that is gone."""
        if self._fd < 0:
            return
        # what cannot be removed is removed by the next start: the seal must be off by then
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._prepared)

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                view = memoryview(data)
                while written < len(view):
                    written += os.write(self._fd, view[written:])
        except OSError as error:
            raise refused(self._inbox, error) from error
        self.size += written
        if self.size - self._on_its_way >= _WRITE_BACK_EVERY:
            self.hasten()

    def hasten(self) -> None:
        """Have the disk begin with what was written so far."""
        start_write_back(self._fd, self._on_its_way, self.size - self._on_its_way)
        self._on_its_way = self.size

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):  # fsync has already said whether the bytes are safe
            os.close(fd)


class WritingFolder:
    """`incoming/`: a locked folder in it for each process that writes, files made in advance.

    Args:
        root: The folder; it exists.
        inbox: Where whole files go, on the same file system.
    """

    def __init__(self, root: Path, inbox: Path) -> None:
        self._root = root
        self._inbox = inbox
        self._own: tuple[int, Path, int] | None = None
        self._prepared: list[tuple[str, int]] = []
        self._prepare_next = _FEWEST_PREPARED
        self._lock = threading.Lock()

    def begin(self, head: bytes) -> Incoming:
        """Begin to write a file.

        Raises:
            SpoolError: The disk refused.
        """
        try:
            name, fd = self._next_prepared()
        except OSError as error:
            raise refused(self._root, error) from error
        return Incoming(name, fd, self._inbox, head)

    def clean_up(self) -> CleanedUp:
        """Move whole files of dead writers to the inbox, remove the others.

        A living process's folder is locked and left alone.

        Raises:
            SpoolError: The disk refused.
        """
        kept = removed = 0
        try:
            for folder in [entry for entry in self._root.iterdir() if entry.is_dir()]:
                fd = _locked(folder)
                if fd is None:
                    continue
                try:
                    for file in folder.iterdir():
                        if is_whole(file):
                            file.rename(self._inbox / f"{file.stem}.dcm")
                            kept += 1
                        else:
                            removed += bool(file.stat().st_size)
                            file.unlink()
                    sync_folder(self._inbox)
                    folder.rmdir()
                finally:
                    os.close(fd)
        except OSError as error:
            raise refused(self._root, error) from error
        return CleanedUp(kept, removed)

    def close(self) -> None:
        """Give up this process's folder; what is unfinished in it is removed."""
        with self._lock:
            for _, fd in self._prepared:
                os.close(fd)
            if self._own is not None and self._own[0] == os.getpid():
                # what was moved out of it must not come back by a power loss
                with contextlib.suppress(OSError):
                    sync_folder(self._inbox)
                shutil.rmtree(self._own[1], ignore_errors=True)
                os.close(self._own[2])
            self._own = None
            self._prepared = []

    def _next_prepared(self) -> tuple[str, int]:
        """Return an empty open file of ours whose name is durable already."""
        with self._lock:
            if self._own is None or self._own[0] != os.getpid():
                self._own = self._new_folder()
                self._prepared = []
            if not self._prepared:
                self._prepare(self._own[1])
            return self._prepared.pop()

    def _prepare(self, folder: Path) -> None:
        """Make files in advance: few for a node that gets few, more for one that gets many."""
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        made: list[tuple[str, int]] = []
        try:
            for _ in range(self._prepare_next):
                name = f"{folder}/{uuid.uuid4().hex}{_UNFINISHED}"
                made.append((name, os.open(name, flags, 0o640)))
            sync_folder(folder)
        except OSError:
            for _, fd in made:
                os.close(fd)
            raise
        self._prepared = made
        self._prepare_next = min(self._prepare_next * 2, _MOST_PREPARED)

    def _new_folder(self) -> tuple[int, Path, int]:
        """Make this process's folder in `incoming/`, locked for as long as the process lives."""
        while True:
            folder = self._root / uuid.uuid4().hex
            folder.mkdir()
            fd = _locked(folder)
            # a `clean_up` elsewhere may have found it before it was locked
            if fd is not None and folder.exists():
                sync_folder(self._root)
                return os.getpid(), folder, fd
            if fd is not None:
                os.close(fd)


def _locked(folder: Path) -> int | None:
    """Open and lock a folder; None when another process has it or removed it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def refused(where: Path, error: OSError) -> SpoolError:
    """Say what a disk refused."""
    return SpoolError(
        str(where), error.strerror or "the disk refused", "check its space, rights and health"
    )
