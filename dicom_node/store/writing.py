"""`incoming/`: each writing process's own folder, and what is left of those that died."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from dicom_node.store.collected import Collected
from dicom_node.store.files import sync_folder
from dicom_node.store.incoming import UNFINISHED, Incoming, refused
from dicom_node.store.reserve import Reserve
from dicom_node.store.seal import is_begun, whole_size

_log = structlog.get_logger()

_FEWEST_PREPARED: Final = 4
_MOST_PREPARED: Final = 64


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """What `clean_up` found of writers that died.

    Attributes:
        kept: Whole files, which the senders may have been told of.
        removed: Unfinished ones, which nobody was told of.
    """

    kept: int
    removed: int


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
        self._reserve: Reserve | None = None

    def keep_reserve(self, size: int) -> None:
        """Keep a reserve of files for images (`store.reserve`), of so many bytes in all.

        A disk that refuses is said in the log: images are refused, or taken, as without it.
        """
        if not size or self._reserve is not None:
            return
        try:
            with self._lock:
                folder = self._own_folder()
        except OSError as error:
            _log.warning("reserve_not_made", why=error.strerror, effect="images take longer")
            return
        self._reserve = Reserve(folder, size)
        self._reserve.begin()

    def begin(self, head: bytes) -> Incoming | Collected:
        """Begin to receive a file.

        Raises:
            SpoolError: The disk refused.
        """
        reserve = self._reserve
        reserved = reserve.take() if reserve is not None else None
        if reserve is None or reserved is None:
            return self._begin_file(head)
        return Collected(reserve, reserved, self._inbox, head, self._begin_file)

    def _begin_file(self, head: bytes) -> Incoming:
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
                fd = lock_folder(folder)
                if fd is None:
                    continue
                try:
                    found = self._settle(folder)
                    kept, removed = kept + found.kept, removed + found.removed
                finally:
                    os.close(fd)
        except OSError as error:
            raise refused(self._root, error) from error
        return CleanedUp(kept, removed)

    def close(self) -> None:
        """Give up this process's folder; what is unfinished in it is removed."""
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            reserve.close()
        with self._lock:
            for _, fd in self._prepared:
                os.close(fd)
            if self._own is not None and self._own[0] == os.getpid():
                try:
                    self._settle(self._own[1])
                except OSError as error:
                    _log.warning("left_to_next_start", folder="incoming", why=error.strerror)
                os.close(self._own[2])
            self._own = None
            self._prepared = []

    def _settle(self, folder: Path) -> CleanedUp:
        """Move whole files of a folder to the inbox, remove the others, and the folder."""
        kept = removed = 0
        for file in folder.iterdir():
            if whole_size(file) is not None:
                file.rename(self._inbox / f"{file.stem}.dcm")
                kept += 1
            else:
                removed += is_begun(file)
                file.unlink()
        # what was moved out of it must not come back by a power loss
        sync_folder(self._inbox)
        folder.rmdir()
        return CleanedUp(kept, removed)

    def _next_prepared(self) -> tuple[str, int]:
        """Return an empty open file of ours whose name is durable already."""
        with self._lock:
            folder = self._own_folder()
            if not self._prepared:
                self._prepare(folder)
            return self._prepared.pop()

    def _own_folder(self) -> Path:
        if self._own is None or self._own[0] != os.getpid():
            self._own = self._new_folder()
            self._prepared = []
        return self._own[1]

    def _prepare(self, folder: Path) -> None:
        """Make files in advance: few for a node that gets few, more for one that gets many."""
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        made: list[tuple[str, int]] = []
        try:
            for _ in range(self._prepare_next):
                name = f"{folder}/{uuid.uuid4().hex}{UNFINISHED}"
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
            fd = lock_folder(folder)
            # a `clean_up` elsewhere may have found it before it was locked
            if fd is not None and folder.exists():
                sync_folder(self._root)
                return os.getpid(), folder, fd
            if fd is not None:
                os.close(fd)


def lock_folder(folder: Path) -> int | None:
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
