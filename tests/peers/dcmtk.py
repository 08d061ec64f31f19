"""DCMTK's programs as peers of the tests; TCP_NODELAY=1, or the sender itself stalls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peers.ports import listens, wait_for

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def program(name: str) -> str:
    """Return the path of a DCMTK or dicom3tools program; fails when it is not installed."""
    # an active virtual environment has pynetdicom's storescu, which is another program
    own = str(Path(sys.prefix) / "bin")
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != own]
    found = shutil.which(name, path=os.pathsep.join(folders))
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


@contextmanager
def running_storescp(folder: Path, port: int, *options: str) -> Iterator[Path]:
    """storescp on a loopback port; yields the folder that it writes to."""
    folder.mkdir(parents=True, exist_ok=True)
    with running("storescp", port, "-aet", "PACS", "-od", str(folder), *options, str(port)):
        yield folder


@contextmanager
def running(name: str, port: int, *arguments: str) -> Iterator[None]:
    """A program that listens on a loopback port, until the end of the block."""
    process = subprocess.Popen(
        [program(name), *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(name, lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, f"{name} ended at once"
        yield
    finally:
        process.kill()
        process.wait()


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
