"""DCMTK's programs as peers of the tests; TCP_NODELAY=1, or the sender itself stalls."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def program(name: str) -> str:
    """Return the path of a DCMTK or dicom3tools program; fails when it is not installed."""
    found = shutil.which(name)
    assert found, f"{name} is not installed: `make test` says which apt line installs it"
    return found


def echoscu(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    """C-ECHO to a loopback port."""
    return _run([program("echoscu"), *options, "127.0.0.1", str(port)])


def storescu(port: int, files: Sequence[Path], *options: str) -> subprocess.CompletedProcess[str]:
    """Send files to a loopback port, in the transfer syntax that they have."""
    return _run([program("storescu"), "-v", *options, "127.0.0.1", str(port), *map(str, files)])


def dcmsend(port: int, files: Sequence[Path], *options: str) -> subprocess.CompletedProcess[str]:
    """Send files of any transfer syntax to a loopback port, decompressing nothing."""
    return _run(
        [program("dcmsend"), "-v", "-dn", *options, "127.0.0.1", str(port), *map(str, files)]
    )


def run_tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run another of the programs (dsrdump, dciodvfy, dcm2pnm)."""
    return _run([program(name), *arguments])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        errors="replace",
    )
