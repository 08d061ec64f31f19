"""Which roles run on this data folder: a locked file each, free again when the process dies."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dicom_node.errors import StoreError

_FOLDER: Final = "locks"
_MOST: Final = 256
_DIGEST: Final = 64
"""Characters of a SHA-256."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A name that is ours until we close it or die."""

    name: str
    fd: int

    def runs(self, digest: str) -> None:
        """Say by which configuration we act from now on.

        Args:
            digest: Of its text (`digest_of`); empty: by none, until we say so again.
        """
        # one write of one length, over what stood there: whoever reads finds the one or the other
        os.pwrite(self.fd, f"{os.getpid()} {digest:{_DIGEST}}\n".encode(), 0)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def hold(data_dir: Path, name: str) -> Hold | None:
    """Take a name; None when another process has it.

    Raises:
        StoreError: The data folder cannot be written.
    """
    try:
        folder = data_dir / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(
            str(data_dir),
            error.strerror or "the disk refused",
            f"let user {os.getuid()} write there, or correct `node.data_dir`",
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return Hold(name, fd)


def hold_numbered(data_dir: Path, name: str) -> Hold:
    """Take the first free of `name-0`, `name-1` …: a role that may run several times.

    Raises:
        StoreError: The data folder cannot be written, or every number is taken.
    """
    for number in range(_MOST):
        held = hold(data_dir, f"{name}-{number}")
        if held is not None:
            return held
    raise StoreError(f"{name}", f"{_MOST} run on this data folder", "stop some of them")


def worker_name(hold_name: str, host: str | None = None) -> str:
    """Return what a worker of this machine is called in the queue, by the name that it holds.

    Args:
        host: What this host is called; None: as the machine says.
    """
    return f"{hold_name}@{host or socket.gethostname()}"[:64]


def holders(data_dir: Path) -> dict[str, int]:
    """Return the process ids that hold names on this data folder, by name."""
    words = {name: text.split() for name, text in _told(data_dir)}
    return {name: int(said[0]) if said and said[0].isdigit() else 0 for name, said in words.items()}


def digests_run(data_dir: Path) -> dict[str, str]:
    """Return the digest of what each of them acts by, by name, of those that say so."""
    words = ((name, text.split()) for name, text in _told(data_dir))
    return {name: said[1] for name, said in words if len(said) > 1}


def _told(data_dir: Path) -> Iterator[tuple[str, str]]:
    folder = data_dir / _FOLDER
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield file.name, os.pread(fd, 128, 0).decode(errors="replace")
        finally:
            os.close(fd)
