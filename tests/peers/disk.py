"""A small disk that can be filled: a tmpfs, for a process with a mount namespace of its own."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OWN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
"""The command that gives another a mount namespace of its own, without being root."""


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Take all the space that is left."""
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                block = bytes(size)
                while _is_written(file.write, block):
                    pass

    def empty(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)


def _is_written(write: object, block: bytes) -> bool:
    try:
        write(block)  # type: ignore[operator]
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def need_namespace() -> None:
    """Skip the test where the kernel lets us have no mount namespace; in CI that is a failure."""
    tried = subprocess.run([*OWN_NAMESPACE, "true"], capture_output=True, check=False)
    if tried.returncode:
        missing = pytest.fail if "DICOM_NODE_SHARED" in os.environ else pytest.skip
        missing("this kernel lets us have no mount namespace of our own")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk at `folder`, until the end of the block; nobody may use it any more then."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
