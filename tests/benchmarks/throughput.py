"""How many studies a minute real workers do, and what a study costs the node's processes.

    python -m tests.benchmarks.throughput [--workers 1,2] [--studies 24] [--rounds 3]
                                          [--part knee|hand] [--database postgresql]

The whole node gets all films at once and works them off, with storescp as its peer. The rate
counts from the first job's start to the last job's end; the numbers of workers take turns in each
round. "knee" is a phantom for `knee_kl_ensemble`, "hand" a film for a tiny pipeline: there the
node's own work is what is left. Costs are what was used from the sending to the last delivery,
less what an idle node uses in that time.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select, text

from dicom_node.store.tables import Delivery, Job
from tests.benchmarks.footprint import MB, family
from tests.benchmarks.site import DATABASES, HAND, KNEE, Films, running_site
from tests.peers import dcmtk
from tests.peers.node import Node
from tests.peers.ports import wait_for

_TICK = os.sysconf("SC_CLK_TCK")
_IDLE_SECONDS = 20.0
_SERVER = {
    "commits": "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
    "rows written": "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database "
    "WHERE datname = current_database()",
    "MB of PostgreSQL's log": "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') / 1048576",
}
Used = dict[str, float]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn took.

    Attributes:
        rate: Studies a minute.
        used: Per study, by what.
    """

    workers: int
    rate: float
    used: Used = field(default_factory=dict)


def used(node: Node) -> Used:
    """Return what the node's processes and its database have used since they began."""
    found: dict[str, float] = defaultdict(float)
    for pid, role in family(node.supervisor_pid).items():
        home = Path("/proc") / str(pid)
        stat = (home / "stat").read_text().rpartition(")")[2].split()
        found[f"CPU s, {role}"] += (int(stat[11]) + int(stat[12])) / _TICK
        written = re.search(r"^write_bytes: (\d+)", (home / "io").read_text(), re.M)
        assert written is not None
        found[f"MB written, {role}"] += int(written[1]) / MB
    if node.database.is_postgres:
        with node.database.read() as session:
            for name, query in _SERVER.items():
                found[name] = float(session.scalar(text(query)) or 0)
    return dict(found)


def ended(node: Node, studies: int) -> bool:
    """Tell whether so many studies are analysed and all of their objects delivered."""
    with node.database.read() as session:
        done = session.scalar(select(func.count()).where(Job.finished_at.is_not(None))) or 0
        waiting = session.scalar(select(func.count()).where(Delivery.state == "pending")) or 0
    return done >= studies and not waiting


def send(node: Node, films: Films, folder: Path, part: str, first: int, number: int) -> None:
    """Send some studies in one association."""
    files = []
    for index in range(first, first + number):
        files.append(folder / f"{index}.dcm")
        films.make(part, f"load-{index}", index).save_as(files[-1], enforce_file_format=True)
    done = dcmtk.storescu(node.port, files, "-aet", "XRAY", "-aec", "AINODE")
    assert done.returncode == 0, done.stderr


def turn(films: Films, database: str, part: str, workers: int, studies: int) -> Turn:
    """Run one turn on a node of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="throughput-") as name,
        running_site(Path(name), database, inference={"workers": workers}) as node,
    ):
        folder = Path(name) / "films"
        folder.mkdir()
        # the first studies find everything cold
        warm = 2 * workers
        send(node, films, folder, part, 0, warm)
        wait_for("the first studies", lambda: ended(node, warm), 300)
        idle_from, before_idle = time.monotonic(), used(node)
        threading.Event().wait(_IDLE_SECONDS)
        idle_for, idle = time.monotonic() - idle_from, used(node)
        begin = time.monotonic()
        send(node, films, folder, part, warm, studies)
        wait_for("the studies", lambda: ended(node, warm + studies), 60 + 30 * studies)
        busy_for, after = time.monotonic() - begin, used(node)
        with node.database.read() as session:
            began, last = session.execute(
                select(func.min(Job.started_at), func.max(Job.finished_at)).where(Job.id > warm)
            ).one()
    costs = {
        key: (after[key] - idle[key] - (idle[key] - before_idle[key]) * busy_for / idle_for)
        / studies
        for key in after
    }
    return Turn(workers, 60 * studies / (last - began).total_seconds(), costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("knee", "hand"), default="knee")
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    given = parser.parse_args()
    many = [int(number) for number in given.workers.split(",")]
    films = Films()
    part = KNEE if given.part == "knee" else HAND
    turns: list[Turn] = []
    loads = [os.getloadavg()[0]]
    for number in range(given.rounds):
        for workers in many:
            turns.append(turn(films, given.database, part, workers, given.studies))
            loads.append(os.getloadavg()[0])
            print(
                f"round {number + 1}: {workers} workers {turns[-1].rate:.1f} a minute",
                file=sys.stderr,
            )
    print(
        f"{given.part}, {given.database}, {given.rounds} rounds of {given.studies} studies; "
        f"load average {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores"
    )
    of = {workers: [one for one in turns if one.workers == workers] for workers in many}
    rates = {workers: statistics.median(one.rate for one in of[workers]) for workers in many}
    print("| workers | studies a minute | of the first |\n|---|---|---|")
    for workers, rate in rates.items():
        print(f"| {workers} | {rate:.1f} | {rate / rates[many[0]]:.2f} |")
    print(f"| a study uses | {' | '.join(f'{workers} workers' for workers in many)} |")
    print("|---" * (1 + len(many)) + "|")
    for key in sorted(of[many[0]][0].used):
        medians = (statistics.median(one.used.get(key, 0) for one in of[w]) for w in many)
        print(f"| {key} | {' | '.join(f'{value:.3f}' for value in medians)} |")


if __name__ == "__main__":
    main()
