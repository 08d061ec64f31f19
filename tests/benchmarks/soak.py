"""A node under a steady load for as long as you like: does anything grow?

    python -m tests.benchmarks.soak --minutes 30 [--rate 12] [--database postgresql] [--samples F]

storescu sends radiographs to the whole node (`dicom-node serve`) at a steady rate; every fourth is
a phantom's knee for `knee_kl_ensemble`, the others are for a tiny pipeline. storescp takes the
reports, and something asks for `/metrics` every 15 seconds. Images, reports and records are kept
for minutes only, so that as much goes as comes. Each sample reads, from outside, the memory, open
files and threads of the node's processes, the rows of every table, and the bytes and files of the
database and the data folder. At the end: the slope of each per hour with its 95 % confidence
interval, without the warm-up, and a verdict. Ends with 1 when something grows that should not.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from dicom_node.demo.ports import free_port
from dicom_node.store.tables import Delivery, Job
from tests.benchmarks.footprint import MB, of_data_folder, of_database, of_processes
from tests.benchmarks.growth import Plan, judge, report
from tests.benchmarks.site import DATABASES, HAND, KNEE, Films, running_site
from tests.benchmarks.slopes import Verdict
from tests.peers.node import Node

KNEES = 4
"""One study of so many is a knee."""
_SCRAPE_EVERY = 15.0


@dataclass
class Fed:
    """What was sent."""

    sent: int = 0
    refused: int = 0
    latest: float = 0.0
    scraped: int = 0
    halt: threading.Event = field(default_factory=threading.Event)


def feed(node: Node, folder: Path, rate: float, fed: Fed) -> None:
    """Send a study every `60 / rate` seconds until told to halt."""
    films = Films()
    folder.mkdir()
    run = secrets.token_hex(4)
    begin, number = time.monotonic(), 0
    while not fed.halt.wait(max(0.0, begin + number * 60 / rate - time.monotonic())):
        fed.latest = max(fed.latest, time.monotonic() - begin - number * 60 / rate)
        part = HAND if number % KNEES else KNEE
        if films.send(node, folder / "film.dcm", part, f"{run}-{number}", number):
            fed.sent += 1
        else:
            fed.refused += 1
        number += 1


def scrape(node: Node, fed: Fed) -> None:
    """Ask for the metrics as Prometheus would."""
    assert node.config.web is not None
    address = f"http://127.0.0.1:{node.config.web.port}/metrics"
    while not fed.halt.wait(_SCRAPE_EVERY):
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                answer.read()
        except OSError as error:
            print(f"/metrics: {error}", file=sys.stderr)
        else:
            fed.scraped += 1


def sample(node: Node, pid: int) -> dict[str, float]:
    """Read everything once."""
    with node.database.read() as session:
        jobs = select(func.count()).where(Job.state.in_(("queued", "running")))
        waiting = select(func.count()).where(Delivery.state == "pending")
        backlog = {
            "jobs that wait or run": float(session.scalar(jobs) or 0),
            "objects that wait to be sent": float(session.scalar(waiting) or 0),
        }
    return {
        **of_processes(pid),
        **backlog,
        **of_database(node.database),
        **of_data_folder(node.config.node.data_dir, node.database),
        "MB of log": node.log.stat().st_size / MB,
    }


def soak(folder: Path, plan: Plan, tell: Callable[[float, Fed, dict[str, float]], None]) -> Fed:
    """Run it; `tell` gets each sample."""
    fed = Fed()
    web = {"port": free_port()}
    with running_site(folder, plan.database, retention=plan.retention(), web=web) as node:
        pid = node.supervisor_pid
        threads = [
            threading.Thread(target=feed, args=(node, folder / "films", plan.rate, fed)),
            threading.Thread(target=scrape, args=(node, fed)),
        ]
        for thread in threads:
            thread.start()
        try:
            begin = time.monotonic()
            number = 0
            while (at := number * plan.every) <= plan.minutes * 60:
                fed.halt.wait(max(0.0, begin + at - time.monotonic()))
                tell(time.monotonic() - begin, fed, sample(node, pid))
                number += 1
        finally:
            fed.halt.set()
            for thread in threads:
                thread.join()
    return fed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=12, help="studies a minute")
    parser.add_argument("--every", type=float, default=30, help="seconds between two samples")
    parser.add_argument("--keep", default="3,5,7", help="minutes of images, reports[, records]")
    parser.add_argument("--warm-up", type=float, default=0.4, help="share that is not judged")
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    parser.add_argument("--samples", type=Path, help="keep the samples in this file, a line each")
    given = parser.parse_args()
    keep = tuple(float(number) for number in given.keep.split(","))
    plan = Plan(given.minutes, given.rate, given.every, keep, given.warm_up, given.database)
    samples: list[dict[str, float]] = []
    loads = [os.getloadavg()[0]]

    def tell(at: float, fed: Fed, now: dict[str, float]) -> None:
        samples.append({"seconds": at, **now})
        loads.append(os.getloadavg()[0])
        if given.samples is not None:
            with given.samples.open("a") as file:
                print(json.dumps(samples[-1]), file=file)
        print(
            f"{at:5.0f} s: sent {fed.sent}, refused {fed.refused}, "
            f"{now['jobs that wait or run']:.0f} jobs open, "
            f"{now['rows of studies']:.0f} studies, {now['MB of memory, all']:.0f} MB, "
            f"{now['open files, all']:.0f} files, {now['threads, all']:.0f} threads, "
            f"database {now['MB of database']:.1f} MB, load {loads[-1]:.1f}",
            file=sys.stderr,
            flush=True,
        )

    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        fed = soak(Path(folder), plan, tell)
    names: dict[str, Any] = dict.fromkeys(name for one in samples for name in one)
    columns = {name: [one.get(name, 0.0) for one in samples] for name in names}
    found = judge(columns, plan)
    print(
        f"{plan.database}, {plan.minutes:g} minutes, {plan.rate:g} studies a minute, "
        f"kept for {given.keep} minutes; load average {min(loads):.1f} to {max(loads):.1f} on "
        f"{os.cpu_count()} cores"
    )
    print(
        f"sent {fed.sent}, refused {fed.refused}, never later than {fed.latest:.1f} s; "
        f"metrics read {fed.scraped} times; the first {plan.warm_up:.0%} left out"
    )
    print(report(found, plan))
    growing = [name for name, _, verdict in found if verdict == Verdict.GROWS]
    print(f"grows: {', '.join(growing) or 'nothing'}")
    return int(bool(growing))


if __name__ == "__main__":
    raise SystemExit(main())
