"""An image that is collected in memory and written in one piece, over a file of the reserve."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dicom_node.store.incoming import UNFINISHED, Incoming, refused
from dicom_node.store.reserve import ROOM, Reserve, Reserved
from dicom_node.store.seal import PREAMBLE, new_checksum, seal_of

_BLOCK: Final = 4096
"""What direct writes are a multiple of; no disk has larger blocks."""


class Collected:
    """An image that is collected in memory; `keep` makes it durable, `discard` forgets it.

    One that becomes longer than `ROOM` goes on as an `Incoming`.

    Args:
        longer: Begins to receive a file as `WritingFolder.begin` does, given its head.
    """

    def __init__(
        self,
        reserve: Reserve,
        reserved: Reserved,
        inbox: Path,
        head: bytes,
        longer: Callable[[bytes], Incoming],
    ) -> None:
        self._reserve = reserve
        self._reserved: Reserved | None = reserved
        self._inbox = inbox
        self._head = head
        self._longer = longer
        self._file: Incoming | None = None
        self._checksum = new_checksum()
        self._kept: str | None = None
        self._size = len(head)
        reserved.buffer[: self._size] = head

    @property
    def size(self) -> int:
        """Bytes so far, the head included."""
        return self._size if self._file is None else self._file.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes of the data set.

        Raises:
            SpoolError: The disk refused.
        """
        end = self._size + len(data)
        if self._file is None and end > ROOM:
            self._become_a_file()
        if self._file is not None:
            self._file.write(data)
        elif self._reserved is not None:
            self._reserved.buffer[self._size : end] = data
            self._checksum.update(data)
            self._size = end

    @contextmanager
    def contents(self) -> Iterator[mmap.mmap | memoryview]:
        """Everything so far, the head included."""
        if self._file is not None:
            with self._file.contents() as data:
                yield data
        elif self._reserved is not None:
            with memoryview(self._reserved.buffer) as whole, whole[: self._size] as data:
                yield data

    def keep(self) -> None:
        """Seal the image and make it durable: from now on it survives whatever happens.

        To be followed by `move`.

        Raises:
            SpoolError: The disk refused, and nothing is left behind; or the folder was given up
                meanwhile.
        """
        if self._file is not None:
            self._file.keep()
            return
        reserved, self._reserved = self._reserved, None
        if reserved is None:
            raise refused(self._inbox, OSError(errno.EBADF, os.strerror(errno.EBADF)))
        padded = -(-self._size // _BLOCK) * _BLOCK
        seal = seal_of(self._head, self._size, self._checksum.hexdigest())
        reserved.buffer[:PREAMBLE] = seal.encoded()
        # what an earlier image left in memory must not follow this one
        reserved.buffer[self._size : padded] = bytes(padded - self._size)
        try:
            with memoryview(reserved.buffer) as whole, whole[:padded] as data:
                if os.pwrite(reserved.fd, data, 0) != padded:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            # while the disk was waited for, the folder may have been given up, and what was
            # unfinished in it with it; from here on, whoever gives it up finds the image whole
            if self._reserve.closed or not os.fstat(reserved.fd).st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except FileNotFoundError as error:
            # not to be touched: it may be in the inbox already, which harms nobody
            raise refused(self._inbox, error) from error
        except OSError as error:
            # what cannot be removed is removed by the next start: the seal must be off by then
            with contextlib.suppress(OSError):
                os.ftruncate(reserved.fd, 0)
            with contextlib.suppress(OSError):
                os.unlink(reserved.path)
            raise refused(self._inbox, error) from error
        finally:
            self._reserve.give_back(reserved, used=True)
        self._kept = reserved.path

    def move(self) -> None:
        """Move the file to the inbox, longer than the image as it is (`Spool.finish`).

        A disk that refuses is asked again later: the image is durable where it is.
        """
        path, self._kept = self._kept, None
        if path is not None:
            name = os.path.basename(path).removesuffix(UNFINISHED)
            self._reserve.move(path, f"{self._inbox}/{name}.dcm")

    def discard(self) -> None:
        """Forget what came so far; harmless after `keep`."""
        if self._file is not None:
            self._file.discard()
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            self._reserve.give_back(reserved, used=False)

    def hasten(self) -> None:
        """Have the disk begin with what was written so far."""
        if self._file is not None:
            self._file.hasten()

    def _become_a_file(self) -> None:
        """Go on in a file, and give the reserve its own back: nothing was written to it."""
        reserved = self._reserved
        if reserved is None:
            return
        self._file = self._longer(self._head)
        with memoryview(reserved.buffer) as whole, whole[len(self._head) : self._size] as data:
            self._file.write(data)
        self._reserved = None
        self._reserve.give_back(reserved, used=False)
