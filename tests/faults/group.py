"""The hospital group: python -m tests.faults.group --studies 60

Two hosts with a receiver, a coordinator and a worker each, on one PostgreSQL and one data folder;
their pipelines run on a Ray cluster of two nodes. While four modalities send, a Ray node, a
receiver, a coordinator and a worker are killed, PostgreSQL is restarted and the whole Ray cluster
is stopped and started, in turn. At the end every acknowledged study must have exactly one SR and
one SC of each of two pipelines in the archive. Prints the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from dicom_node.store.tables import AuditEvent, Job
from tests.faults.storm import (
    PIPELINES,
    Counts,
    Modality,
    films,
    sending_modalities,
    take_stock,
)
from tests.peers.node import Node, running_pacs
from tests.peers.ports import wait_for
from tests.peers.postgres import Postgres, running_postgres
from tests.peers.ray_cluster import RayCluster, ray_cluster
from tests.unit.inference.tiny_bundles import write_bundle

ROLES = ("receiver", "coordinator", "worker")
HOSTS = 2
_RAY_CPUS = 4


class Group(Node):
    """Roles as processes of their own; one that dies is started again, as systemd does it."""

    def start(self) -> None:
        self._halt = threading.Event()
        self._change = threading.Lock()
        self._roles: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        wait_for("the receivers", lambda: self._echo() == 0, 300)

    def stop(self) -> int:
        self._halt.set()
        self._keeper.join()
        for process in self._roles.values():
            process.terminate()
        return max(process.wait(timeout=90) for process in self._roles.values())

    def kill(self, role: str, host: int) -> None:
        """SIGKILL to one role of one host; it is started again."""
        with self._change:
            process = self._roles[role, host]
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _keep(self) -> None:
        while not self._halt.wait(0.2):
            with self._change:
                for role in ROLES:
                    for host in range(HOSTS):
                        process = self._roles.get((role, host))
                        if process is None or process.poll() is not None:
                            self._roles[role, host] = self._begin(role)

    def _begin(self, role: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "dicom_node", "serve", "--role", role),
                    *("--config", str(self.config_file)),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def _echo(self) -> int:
        from tests.peers import dcmtk

        return dcmtk.echoscu(self.port, "-aec", "AINODE", "-aet", "STORESCU").returncode


@dataclass
class GroupCounts(Counts):
    """What is counted of a group beside the rest.

    Attributes:
        attempts: How many jobs have so many attempts.
        events: Of the audit trail, what tells of the faults.
    """

    attempts: Counter[int] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        tries = ", ".join(f"{n} jobs {times}" for times, n in sorted(self.attempts.items()))
        events = ", ".join(f"{name} {number}" for name, number in sorted(self.events.items()))
        return f"{super().__str__()}\nattempts counted: {tries}\naudit trail: {events}"


@contextlib.contextmanager
def _surroundings(
    folder: Path, actors: int
) -> Iterator[tuple[Group, Postgres, RayCluster, object]]:
    for name, number in PIPELINES.items():
        write_bundle(folder / "pipelines", name, title=name, series_number=number)
    with (
        running_postgres() as postgres,
        running_pacs(folder / "pacs") as pacs,
        ray_cluster() as machines,
    ):
        for _ in range(2):
            machines.add(_RAY_CPUS)
        node = Group(
            folder / "node",
            pacs.dicom_port,
            database_url=postgres.url(),
            routes=[
                {
                    "name": "all radiographs",
                    "when": {"modality": ["CR", "DX"]},
                    "run": list(PIPELINES),
                    "send_to": ["pacs"],
                }
            ],
            accept_from="anyone",
            receive={"processes": HOSTS},
            pipelines_path=[str(folder / "pipelines")],
            inference={
                "executor": "ray",
                "attempts": 50,
                "lease_seconds": 10,
                "quarantine_after": 0,
                "max_memory_mb": 0,
                "selftest": False,
            },
            ray={
                "num_cpus": 0.5,
                "min_actors": 1,
                "max_actors": actors,
                "cache_dir": str(folder / "cache"),
            },
        )
        try:
            node.start()
            yield node, postgres, machines, pacs
        finally:
            node.close()


def group(
    folder: Path, studies: int, seed: int, pause: float, rounds: int, actors: int
) -> GroupCounts:
    """Let it loose.

    Args:
        pause: Seconds between two studies of a modality.
        rounds: How often each fault strikes at least.
        actors: Of each pipeline and host at most.
    """
    counts = GroupCounts(studies, seed, "hospital group")
    files = films(folder / "films", studies, seed)
    begin = time.monotonic()
    with _surroundings(folder, actors) as (node, postgres, machines, pacs):
        with sending_modalities(node.port, files, pause, counts) as modalities:
            _strike(node, postgres, machines, modalities, random.Random(seed), counts, rounds)
        node.wait_for_studies(files, deadline=900)
        take_stock(node, {"pacs": pacs}, files, counts)  # type: ignore[dict-item]
        _count_attempts(node, counts)
    counts.seconds = time.monotonic() - begin
    return counts


def _strike(
    node: Group,
    postgres: Postgres,
    machines: RayCluster,
    modalities: list[Modality],
    chance: random.Random,
    counts: Counts,
    rounds: int,
) -> None:
    """Break one thing after the other until every study is acknowledged."""

    def ray_node() -> None:
        machines.kill(chance.choice(machines.nodes()))
        machines.add(_RAY_CPUS)

    def ray_cluster_away() -> None:
        machines.close()
        moment.wait(chance.uniform(1, 4))
        machines.start()
        for _ in range(2):
            machines.add(_RAY_CPUS)

    moment = threading.Event()
    faults = {
        "Ray node killed": ray_node,
        "receiver killed": lambda: node.kill("receiver", chance.randrange(HOSTS)),
        "PostgreSQL restarted": postgres.restart,
        "coordinator killed": lambda: node.kill("coordinator", chance.randrange(HOSTS)),
        "worker killed": lambda: node.kill("worker", chance.randrange(HOSTS)),
        "PostgreSQL crashed": lambda: postgres.restart(signal.SIGQUIT),
        "Ray cluster away": ray_cluster_away,
    }
    # the first fault strikes when there is work for it
    wait_for("a job on the cluster", lambda: _finished(node) > 0, 300)
    while True:
        for name, fault in faults.items():
            sending = any(modality.is_alive() for modality in modalities)
            if not sending and min(counts.struck[fault] for fault in faults) >= rounds:
                return
            moment.wait(chance.uniform(1, 4))
            fault()
            counts.struck[name] += 1
            print(f"{name} ({counts.struck[name]})", file=sys.stderr, flush=True)


def _finished(node: Group) -> int:
    with node.database.read() as session:
        return session.scalar(select(func.count()).where(Job.state == "done")) or 0


def _count_attempts(node: Group, counts: GroupCounts) -> None:
    with node.database.read() as session:
        for times, number in session.execute(
            select(Job.attempts, func.count()).group_by(Job.attempts)
        ):
            counts.attempts[times] = number
        for kind, number in session.execute(
            select(AuditEvent.kind, func.count())
            .where(AuditEvent.kind.in_(("job_requeued", "job_attempt_failed", "job_failed")))
            .group_by(AuditEvent.kind)
        ):
            counts.events[kind] = number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--pause", type=float, default=3.0, help="between a modality's studies")
    parser.add_argument("--rounds", type=int, default=2, help="of each fault, at least")
    parser.add_argument("--actors", type=int, default=2, help="of each pipeline and host")
    parser.add_argument("--keep", type=Path, help="folder in which all is left behind")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="group-"))
        )
        arguments = (options.studies, options.seed, options.pause, options.rounds)
        counts = group(folder, *arguments, options.actors)
    print(counts)
    wrong = (*counts.missing, *counts.double, *counts.lost_images, *counts.unaccounted)
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong) or counts.acknowledged != counts.studies


if __name__ == "__main__":
    raise SystemExit(main())
