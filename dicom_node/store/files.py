"""Writing a file so that it is either wholly there, also after power loss, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

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
