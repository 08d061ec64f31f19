"""Many CT studies in a row through one node: how high does its memory get, and does it grow?

    python -m tests.benchmarks.memory [--studies 100] [--slices 300]

A node as `dicom-node serve` runs it gets one study after another and sends its reports to
storescp; what a study leaves on the disk goes after a minute. After each study the memory of every
process is read from outside it (proportional share), and the highest that the worker has ever
had. At the end: the slope of each in MB per study with its 95 % confidence interval, without the
first fifth.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from pydicom import dcmread

from tests.benchmarks.footprint import of_processes
from tests.benchmarks.release_to_sr import fresh, pacs_of, send
from tests.benchmarks.slopes import after_warm_up, slope
from tests.peers.node import Node, running_node

ROLES = ("worker", "coordinator", "receiver")
_MAKE = """
import sys
from pathlib import Path
from tests.benchmarks.pipelines import ct_of
ct_of(Path(sys.argv[1]), int(sys.argv[2]), 300 / int(sys.argv[2]))
"""
_WARM_UP = 0.2
_HOUR = 3600.0
_KEPT = 60.0
"""Seconds for which the images of a study that has ended stay."""


def peak_mb(pid: int) -> float:
    """The highest resident set that a process has had."""
    status = (Path("/proc") / str(pid) / "status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+)", status, re.M)
    assert found, "Linux only"
    return int(found[1]) / 1024


def sample(node: Node) -> dict[str, float]:
    found = of_processes(node.supervisor_pid)
    return {role: found[f"MB of memory, {role}"] for role in ROLES}


def measure(node: Node, images: Path, studies: int) -> None:
    base = [dcmread(file) for file in sorted(images.glob("*.dcm"))]
    samples: list[dict[str, float]] = []
    print("| study | seconds | " + " | ".join(f"{role} MB" for role in ROLES) + " | peak MB |")
    print("|---" * (len(ROLES) + 3) + "|")
    for number in range(1, studies + 1):
        began = time.monotonic()
        uid = fresh(base)
        send(node, base)
        node.wait_for_studies([uid], 900)
        took = time.monotonic() - began
        samples.append(sample(node))
        if number <= 3 or number % 10 == 0:
            pid = node.pid_of("worker")
            assert pid is not None
            cells = " | ".join(f"{samples[-1][role]:.0f}" for role in ROLES)
            print(f"| {number} | {took:.1f} | {cells} | {peak_mb(pid):.0f} |", flush=True)
    for role in ROLES:
        # a study is an "hour": the slope is then per study
        hours = [_HOUR * number for number in range(studies)]
        kept = after_warm_up(hours, [one[role] for one in samples], _WARM_UP)
        line = slope(*kept)
        print(
            f"{role}: {line.per_hour:+.2f} MB per study "
            f"(95 %: {line.low:+.2f} to {line.high:+.2f}), mean {line.mean:.0f} MB"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--slices", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        (folder / "images").mkdir()
        subprocess.run(
            [sys.executable, "-c", _MAKE, str(folder / "images"), str(options.slices)], check=True
        )
        port = stack.enter_context(pacs_of("storescp", folder / "pacs"))
        settings = {"device": "cpu", "selftest": False}
        node = stack.enter_context(
            running_node(
                folder / "node",
                port,
                inference=settings,
                retention={"images_days": _KEPT / 86400, "reports_days": _KEPT / 86400},
            )
        )
        measure(node, folder / "images", options.studies)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
