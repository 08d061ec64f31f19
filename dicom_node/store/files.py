"""Writing a file so that it is either wholly there, also after power loss, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import SpoolError


def write_durably(path: Path, data: bytes) -> str:
    """Write `data` to `path`: temporary file, fsync, rename, fsync of the folder.

    Returns:
        The SHA-256 of the data, in hexadecimal.

    Raises:
        SpoolError: The disk refused; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        # on a disk that is gone this fails as well, and says nothing more
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise SpoolError(
            str(path.parent), error.strerror or "the disk refused", "check its space and rights"
        ) from error
    return hashlib.sha256(data).hexdigest()


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename in it survives power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_WRITE: Final = 2
"""SYNC_FILE_RANGE_WRITE: begin to write dirty pages, wait for nothing (sync_file_range(2))."""


def _sync_file_range() -> Callable[..., Any] | None:
    """Return Linux's call; None on other systems."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_begin_writing: Final = _sync_file_range()


def start_write_back(fd: int, start: int, length: int) -> None:
    """Ask the kernel to begin to write a part of a file to the disk.

    It only saves time: what it cannot do, and every error of the disk, is left to fsync.
    """
    if _begin_writing is not None:
        _begin_writing(fd, start, length, _WRITE)
