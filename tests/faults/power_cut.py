"""Power cuts: what the disk holds at the moment of an answer is enough.

    python -m tests.faults.power_cut --cuts 25

Needs root: each round makes an ext4 in a file, mounts it, sends images to a receiver on it, stops
that receiver within the answer to the last, and copies the file as it is: what is only in the
kernel's memory is not in the copy. The copy is mounted, cleaned up as the next start does it, and
must hold every acknowledged image.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.store.spool import Spool
from tests.faults.receivers import Nursery
from tests.faults.spools import kept
from tests.peers.scripted import associated, store

MIB = 1024 * 1024


@contextmanager
def mounted(disk: Path) -> Iterator[Path]:
    """Mount a file that holds a file system."""
    with tempfile.TemporaryDirectory(prefix="power-cut-") as folder:
        subprocess.run(["mount", "-o", "loop", str(disk), folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def cut(work: Path, number: int, chance: random.Random, reserve: int) -> tuple[int, int]:
    """Cut the power once; returns how many images were acknowledged, and how many of them lost."""
    disk, after = work / "disk.img", work / "after.img"
    disk.unlink(missing_ok=True)
    subprocess.run(["truncate", "-s", "1G", str(disk)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    told = []
    with mounted(disk) as folder, Nursery(work) as nursery:
        receiver = nursery.start(folder / "spool", reserve=reserve)
        threading.Event().wait(chance.uniform(0, 1))  # a reserve is filled meanwhile, or not
        with associated(receiver.port, timeout=60) as connection:
            for image in range(chance.randrange(1, 12)):
                sop = f"1.2.3.{number + 1}.{image + 1}"
                pixels = chance.randbytes(2 * chance.randrange(100, 400_000))
                assert store(connection, sop, pixels) == 0
                told.append(sop)
            os.kill(receiver.pid, signal.SIGSTOP)
            subprocess.run(["cp", "--sparse=always", str(disk), str(after)], check=True)
            os.kill(receiver.pid, signal.SIGCONT)
    with mounted(after) as folder:
        Spool(folder / "spool").clean_up()
        return len(told), len(set(told) - set(kept(folder / "spool")))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=25)
    parser.add_argument("--reserve-mb", type=int, default=16, help="0: none")
    options = parser.parse_args()
    chance = random.Random()
    with tempfile.TemporaryDirectory(prefix="power-cut-") as folder:
        results = [
            cut(Path(folder), number, chance, options.reserve_mb * MIB)
            for number in range(options.cuts)
        ]
    told, lost = (sum(one) for one in zip(*results, strict=True))
    print(f"{options.cuts} power cuts: {told} images acknowledged, {lost} of them lost")
    raise SystemExit(bool(lost))


if __name__ == "__main__":
    main()
