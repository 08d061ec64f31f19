"""A file on its way into the spool: one fsync, and nothing left of it when it is not kept."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.store.files import start_write_back
from dicom_node.store.seal import new_checksum, seal_of

UNFINISHED: Final = ".part"
_WRITE_BACK_EVERY: Final = 512 * 1024
"""Images go to the disk while they come: the fsync at their end has less to wait for."""
_FIRST_PAGE: Final = 4096
"""Not written early, as the seal comes into it at the end."""


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

    @contextmanager
    def contents(self) -> Iterator[mmap.mmap | memoryview]:
        """Everything that was written so far, the head included; not all of it in memory."""
        with mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ) as data:
            yield data

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
        name = os.path.basename(self._prepared).removesuffix(UNFINISHED)
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

    def move(self) -> None:
        """Do nothing: `keep` has moved it."""

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


def refused(where: Path, error: OSError) -> SpoolError:
    """Say what a disk refused."""
    return SpoolError(
        str(where), error.strerror or "the disk refused", "check its space, rights and health"
    )
