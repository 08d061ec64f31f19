"""The bytes of a file, whoever holds it: the one way to what was received and what was made."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
import weakref
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

import structlog

from dicom_node.errors import ImageError, SpoolError
from dicom_node.hosts.client import HostClient
from dicom_node.store.kept import KeptFile, KeptKind
from dicom_node.store.seal import dataset_sha256
from dicom_node.store.writing import lock_folder

_log = structlog.get_logger()


class Files:
    """Finds files; what another host holds is fetched once and kept for a while.

    Bytes that came over the network are compared with the index's SHA-256 before anybody sees
    them. Safe for threads.

    Args:
        folders: Where the files of each kind lie on this host.
        this_host: What this host is called; None: all hosts share one data folder.
        client: Asks other hosts; None: there are none.
        cache: Where each such object has a folder for what it fetches, which goes with it.
        most_bytes: So much stays there beside what is in use.
    """

    def __init__(
        self,
        folders: Mapping[KeptKind, Path],
        this_host: str | None = None,
        client: HostClient | None = None,
        cache: Path | None = None,
        most_bytes: int = 0,
    ) -> None:
        self._folders = dict(folders)
        self._this_host = this_host
        self._client = client
        self._cache = cache
        self._most = most_bytes
        self._sizes: dict[Path, int] = {}
        self._users: dict[Path, set[Hashable]] = {}
        self._lock = threading.Lock()
        self._own: Path | None = None
        self._finalize: Callable[[], object] = lambda: None

    def path(self, kept: KeptFile, user: Hashable) -> Path:
        """Return a file of this machine with the bytes; whether ours is there is not looked at.

        Args:
            user: Until `release` of it what was fetched stays.

        Raises:
            HostAwayError: The host that holds it does not answer.
            ImageError: That host has it no more, or it came with other bytes.
            SpoolError: The disk does not take it.
        """
        if kept.host is None or kept.host == self._this_host:
            return self._folders[kept.kind] / kept.path
        with self._lock:
            file = self._fetched(kept)
            self._users.setdefault(file, set()).add(user)
            return file

    def release(self, user: Hashable) -> None:
        """Say that a user needs no more what it asked for."""
        with self._lock:
            for file, users in list(self._users.items()):
                users.discard(user)
                if not users:
                    del self._users[file]
            self._trim()

    def read(self, kept: KeptFile) -> bytes:
        """Return the bytes of a file; for many threads, nothing stays in use.

        Raises:
            HostAwayError, ImageError, SpoolError: As above.
            OSError: Our own file cannot be read.
        """
        if kept.host is None or kept.host == self._this_host:
            return (self._folders[kept.kind] / kept.path).read_bytes()
        with self._lock:
            found = self._fetched(kept).read_bytes()
            self._trim()
        return found

    def disk_sha256(self, kept: KeptFile) -> str | None:
        """Have the host that holds an instance read it from its disk; None: we hold it.

        Raises:
            HostAwayError, ImageError: As above.
        """
        if self._client is None or kept.host is None or kept.host == self._this_host:
            return None
        return self._client.disk_sha256(kept)

    def close(self) -> None:
        """Give up what was fetched."""
        if self._client is not None:
            self._client.close()
        self._finalize()

    def _fetched(self, kept: KeptFile) -> Path:
        if self._client is None or self._cache is None:
            why = f"host {kept.host} holds it, and node.yaml has no section `hosts`"
            raise ImageError(kept.name, why, "add `hosts`, or start that host's own node")
        folder = self._folder(self._cache)
        file = folder / f"{kept.kind}-{kept.id}-{kept.sha256}.dcm"
        if file in self._sizes:
            self._sizes[file] = self._sizes.pop(file)  # used last
            return file
        part = folder / f"{uuid.uuid4().hex}.part"
        try:
            self._client.fetch(kept, part)
            came = (
                dataset_sha256(part)
                if kept.kind is KeptKind.INSTANCE
                else hashlib.sha256(part.read_bytes()).hexdigest()
            )
            if came != kept.sha256:
                _log.error("file_damaged", host=kept.host, kind=str(kept.kind), id=kept.id)
                why = f"host {kept.host} gave other bytes than those that the index knows"
                raise ImageError(kept.name, why, "see to that host's disk; send the study again")
            part.rename(file)
        except OSError as error:
            raise _refused(self._cache, error) from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        self._sizes[file] = file.stat().st_size
        return file

    def _folder(self, cache: Path) -> Path:
        """Return our folder; made at its first use, and with it what dead ones left is removed."""
        if self._own is None:
            try:
                self._own, fd = _new_folder(cache)
            except OSError as error:
                raise _refused(cache, error) from None
            self._finalize = weakref.finalize(self, _remove, self._own, fd)
        return self._own

    def _trim(self) -> None:
        """Remove what was used longest ago, and nothing that is in use."""
        idle = {file: size for file, size in self._sizes.items() if file not in self._users}
        total = sum(idle.values())
        for file, size in idle.items():
            if total <= self._most:
                return
            with contextlib.suppress(OSError):  # a disk that is gone has nothing to remove
                file.unlink(missing_ok=True)
            del self._sizes[file]
            total -= size


def _new_folder(cache: Path) -> tuple[Path, int]:
    """Make a folder and lock it, so that others know that its user lives."""
    cache.mkdir(parents=True, exist_ok=True)
    for folder in cache.iterdir():
        fd = lock_folder(folder)
        if fd is not None:
            _remove(folder, fd)
    while True:
        folder = cache / uuid.uuid4().hex
        folder.mkdir()
        fd = lock_folder(folder)
        # another may have taken it for a dead one's before it was locked
        if fd is not None and folder.exists():
            return folder, fd
        if fd is not None:
            os.close(fd)


def _remove(folder: Path, fd: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(fd)


def _refused(folder: Path, error: OSError) -> SpoolError:
    why = error.strerror or "the disk refused"
    return SpoolError(str(folder), why, "check its space and rights")
