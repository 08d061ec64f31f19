"""The spool: received files, durable before they are acknowledged, filed after.

`inbox/` holds what was acknowledged and is not indexed yet; `studies/<study>/<series>/<sop>.dcm`
what is; `aside/` what could not be indexed or contradicts what came before; `incoming/` what is
being written, one folder for each writing process. A file is moved only by rename, so that a
crash leaves it in exactly one of these places.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.store.files import sync_folder

_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """Where an inbox file belongs.

    Attributes:
        source: The file in the inbox.
        path: Its place, relative to the spool's root.
        sha256: Of the encoded data set, without the File Meta Information.
    """

    source: Path
    path: str
    sha256: str


class Incoming:
    """A file that is being received; `keep` makes it durable, anything else removes it.

    Bytes go to the file as they come; nothing but the present piece is held in memory.
    """

    def __init__(self, temporary: Path, inbox: Path) -> None:
        self._temporary = temporary
        self._inbox = inbox
        self._fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self.size = 0

    def fileno(self) -> int:
        """The open file, for reading back what was written."""
        return self._fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            SpoolError: The disk refused.
        """
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                view = memoryview(data)
                while written < len(view):
                    written += os.write(self._fd, view[written:])
        except OSError as error:
            raise _refused(self._inbox, error) from error
        self.size += written

    def keep(self) -> Path:
        """Make the file durable and move it to the inbox; returns its path there.

        Raises:
            SpoolError: The disk refused; nothing is left behind.
        """
        target = self._inbox / f"{self._temporary.stem}.dcm"
        try:
            os.fsync(self._fd)
            self._close()
            self._temporary.rename(target)
        except OSError as error:
            self.discard()
            raise _refused(self._inbox, error) from error
        try:
            sync_folder(self._inbox)
        except OSError as error:
            # the sender will be told that it failed, and sends it again
            target.unlink(missing_ok=True)
            raise _refused(self._inbox, error) from error
        return target

    def discard(self) -> None:
        """Remove what was written so far; harmless after `keep`, and on a disk that is gone."""
        self._close()
        # what cannot be removed now is removed by the next start's `clean_up`
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # fsync has already said whether the bytes are safe
                os.close(fd)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()


class Spool:
    """Received files under one root folder; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inbox = root / "inbox"
        self._incoming = root / "incoming"
        self._aside = root / "aside"
        self._own: tuple[int, Path, int] | None = None
        self._lock = threading.Lock()
        try:
            for folder in (self._inbox, self._incoming, self._aside, root / "studies"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(root, error) from error

    def clean_up(self) -> int:
        """Remove what writers that died left unfinished; returns how many files.

        Nothing of it was acknowledged. What a living process is writing is left alone: its
        folder is locked.

        Raises:
            SpoolError: The disk refused.
        """
        removed = 0
        try:
            for folder in [entry for entry in self._incoming.iterdir() if entry.is_dir()]:
                fd = _locked(folder)
                if fd is None:
                    continue
                try:
                    for file in folder.iterdir():
                        file.unlink()
                        removed += 1
                    folder.rmdir()
                finally:
                    os.close(fd)
        except OSError as error:
            raise _refused(self._incoming, error) from error
        return removed

    def incoming(self) -> Incoming:
        """Begin to receive a file.

        Raises:
            SpoolError: The disk refused.
        """
        try:
            folder = self._own_folder()
            return Incoming(folder / f"{uuid.uuid4().hex}.part", self._inbox)
        except OSError as error:
            raise _refused(self._incoming, error) from error

    def close(self) -> None:
        """Give up this process's writing folder; what is unfinished in it is removed."""
        with self._lock:
            if self._own is not None and self._own[0] == os.getpid():
                shutil.rmtree(self._own[1], ignore_errors=True)
                os.close(self._own[2])
            self._own = None

    def free_bytes(self) -> int:
        """Return the space that is free for us on the spool's file system.

        Raises:
            SpoolError: The file system does not answer.
        """
        try:
            stat = os.statvfs(self.root)
        except OSError as error:
            raise _refused(self.root, error) from error
        return stat.f_bavail * stat.f_frsize

    def waiting(self) -> list[Path]:
        """Return the files that wait to be indexed, oldest first."""
        files: list[tuple[int, str]] = []
        with os.scandir(self._inbox) as entries:
            for entry in entries:
                # another process may have moved it since it was listed
                with contextlib.suppress(FileNotFoundError):
                    files.append((entry.stat().st_mtime_ns, entry.path))
        return [Path(path) for _, path in sorted(files)]

    def plan(self, file: Path, study_uid: str, series_uid: str, sop_uid: str) -> Plan:
        """Work out where an inbox file belongs; moves nothing.

        Raises:
            SpoolError: A UID is not one, and would name a folder.
        """
        for name, uid in (("Study", study_uid), ("Series", series_uid), ("SOP", sop_uid)):
            if not is_valid_uid(uid):
                raise SpoolError(
                    file.name, f"its {name} Instance UID is not a UID", "mend the sender"
                )
        return Plan(file, f"studies/{study_uid}/{series_uid}/{sop_uid}.dcm", dataset_sha256(file))

    def place(self, plan: Plan, *, keep_aside: bool = False) -> Path:
        """Move a planned file to its place; harmless when repeated; loses no content.

        A file with the same content there already makes this one superfluous; a file with other
        content, which the index does not know of, is moved aside first.

        Args:
            keep_aside: The index holds other content for this place: keep this file in `aside/`,
                under a name with its hash.

        Raises:
            SpoolError: The disk refused; the file is still where it was.
        """
        target = self.root / plan.path
        if keep_aside:
            target = self._aside / f"{target.stem}.{plan.sha256[:16]}.dcm"
        try:
            _make_folders(target.parent, self.root)
            if not plan.source.exists():
                return target
            if target.exists():
                there = dataset_sha256(target)
                if there == plan.sha256:
                    plan.source.unlink()
                    return target
                target.rename(self._aside / f"{target.stem}.{there[:16]}.dcm")
                sync_folder(self._aside)
            plan.source.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise _refused(target.parent, error) from error
        return target

    def set_aside(self, file: Path) -> Path:
        """Move an inbox file that cannot be indexed to `aside/`.

        Raises:
            SpoolError: The disk refused; the file is still where it was.
        """
        target = self._aside / file.name
        try:
            file.rename(target)
            sync_folder(self._aside)
        except OSError as error:
            raise _refused(self._aside, error) from error
        return target

    def _own_folder(self) -> Path:
        """Return this process's folder in `incoming/`, locked for as long as it lives."""
        own = self._own
        if own is not None and own[0] == os.getpid():
            return own[1]
        with self._lock:
            if self._own is not None and self._own[0] == os.getpid():
                return self._own[1]
            while True:
                folder = self._incoming / uuid.uuid4().hex
                folder.mkdir()
                fd = _locked(folder)
                # a `clean_up` elsewhere may have found it before it was locked
                if fd is not None and folder.exists():
                    self._own = (os.getpid(), folder, fd)
                    return folder
                if fd is not None:
                    os.close(fd)


def dataset_sha256(file: Path) -> str:
    """Hash the encoded data set of a DICOM file, without preamble and File Meta Information.

    The File Meta Information is the receiver's own (PS3.10 section 7.1): two copies of one
    instance differ in it when two senders sent them.
    """
    with file.open("rb") as stream:
        stream.seek(dataset_start(stream.read(144)))
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def dataset_start(head: bytes) -> int:
    """Return where the data set begins in a file whose first 144 bytes are `head`."""
    # the group length (0002,0000) stands first: tag, VR, length, then the number itself
    if head[128:132] != b"DICM" or head[132:136] != b"\x02\x00\x00\x00":
        return 0
    return 144 + int.from_bytes(head[140:144], "little")


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


def _make_folders(folder: Path, root: Path) -> None:
    """Make a folder below `root`; each new one is in its parent for good."""
    missing: list[Path] = []
    while folder != root and not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def _refused(where: Path, error: OSError) -> SpoolError:
    return SpoolError(
        str(where), error.strerror or "the disk refused", "check its space, rights and health"
    )
