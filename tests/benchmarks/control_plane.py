"""What the database costs per study, and how many workers the queue keeps busy.

    python -m tests.benchmarks.control_plane [--workers 1,2,4,8,16,32] [--sleep 1.0] [--rounds 8]

A study of one image with one job of two objects for one peer goes through the store's own
functions, in the transactions that the roles make. The model sleeps: what is measured is the
control plane. Workers are threads in up to four processes; each runs `--rounds` jobs on average.
PostgreSQL runs on the same machine with its durable settings (fsync on), SQLite as always.

Of the time of a study it also says what is spent in statements, in commits (which wait for the
disk), and in between, in Python; and the rows and bytes that a study leaves in the database.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from dicom_node.clock import SystemClock
from dicom_node.model.states import JobState
from dicom_node.store import audit, index, jobs, outbox
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.tables import Study
from tests.benchmarks.meter import Meter, kept
from tests.factories import facts
from tests.peers.postgres import running_postgres

DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "synchronous_commit": "on"}
_CLOCK = SystemClock()
_LEASE = timedelta(seconds=60)
_PROCESSES = 4


@dataclass(frozen=True)
class Cost:
    """Milliseconds per study, one after another, nothing else going on."""

    arrive: float
    route: float
    claim: float
    finish: float
    deliver: float

    @property
    def sum(self) -> float:
        return self.arrive + self.route + self.claim + self.finish + self.deliver


def arrive(database: Database, number: int) -> None:
    """One image, as the receiver's audit event and the index make it."""
    uid, now = f"1.2.3.{number}", _CLOCK.now()
    with database.write(alone=False) as session:
        audit.record(session, now, "association_accepted", peer="XR")
    with database.write() as session:
        item = facts(study=uid, series=f"{uid}.1", sop=f"{uid}.1.1", sender=f"XR{number % 5}")
        index.add_instance(session, index.Arrival(item, "x", str(number), now), now)


def route(database: Database) -> int:
    """Settle what is there, and queue a job for each."""
    with database.write() as session:
        index.settle_quiet(session, _CLOCK.now(), timedelta(0))
    routed = 0
    while True:
        with database.read() as session:
            waiting = [study.id for study in index.to_route(session)]
        if not waiting:
            return routed
        for study_id in waiting:
            with database.write() as session:
                study = session.get_one(Study, study_id)
                (found,) = index.facts_of_study(session, study)
                new = NewJob(
                    "kl", "1", "w", [found.sop_instance_uid], ["pacs"], "all", sender=found.sender
                )
                jobs.enqueue(session, study, new, _CLOCK.now())
                study.routed_revision = study.revision
            routed += 1


def claim(database: Database, name: str) -> int | None:
    with database.write(alone=False) as session:
        found = jobs.claim_batch(session, name, _CLOCK.now(), _LEASE, lambda _: 1)
        return found[0].id if found else None


def finish(database: Database, name: str, job_id: int) -> None:
    reports = [NewReport(kind, "1.2", f"2.25.{job_id}.{n}", "x", "h") for n, kind in _KINDS]
    result = JobResult(JobState.DONE, reports, [("statement", {"text": "KL 2"})])
    with database.write(alone=False) as session:
        if not jobs.finish(session, job_id, name, result, _CLOCK.now()):
            raise RuntimeError(f"job {job_id} was taken from its worker")


_KINDS = tuple(enumerate(("SR", "SC"), start=1))


def deliver(database: Database) -> int:
    """Record that the peer has taken what is due; returns how many objects."""
    with database.read() as session:
        due = [row.id for row in outbox.due(session, "pacs", _CLOCK.now())]
    for delivery_id in due:
        with database.write(alone=False) as session:
            outbox.mark_sent(session, delivery_id, "0x0000", _CLOCK.now())
    return len(due)


def cost(database: Database, first: int, studies: int) -> Cost:
    """Measure each step of some studies alone."""

    def timed(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - began) / studies

    def each(work: Callable[[int], object]) -> Callable[[], None]:
        return lambda: [work(number) for number in range(studies)] and None

    claimed: list[int] = []

    def take(_: int) -> None:
        job_id = claim(database, "w0")
        if job_id is None:
            raise RuntimeError("nothing is queued")
        claimed.append(job_id)

    def send() -> None:
        while deliver(database):
            pass

    return Cost(
        timed(each(lambda number: arrive(database, first + number))),
        timed(lambda: route(database)),
        timed(each(take)),
        timed(each(lambda number: finish(database, "w0", claimed[number]))),
        timed(send),
    )


def work(url: str, host: int, workers: int, sleep: float, begin: Barrier, end: Barrier) -> None:
    """Some workers, each in a thread, until nothing is queued."""
    database = Database(url)
    pause = threading.Event()

    def run(name: str) -> None:
        while (job_id := claim(database, name)) is not None:
            pause.wait(sleep)
            finish(database, name, job_id)

    threads = [
        threading.Thread(target=run, args=(f"w{host}-{number}",)) for number in range(workers)
    ]
    with database.read() as session:
        session.connection()  # connected before the clock runs
    begin.wait()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end.wait()
    database.close()


def throughput(url: str, first: int, workers: int, sleep: float, rounds: int) -> float:
    """Studies a minute through so many workers, from a queue that holds all of them."""
    database = Database(url)
    for number in range(first, first + workers * rounds):
        arrive(database, number)
    route(database)
    database.close()
    spawn = multiprocessing.get_context("spawn")
    number = min(workers, _PROCESSES)
    begin, end = spawn.Barrier(number + 1), spawn.Barrier(number + 1)
    share = [workers // number + (host < workers % number) for host in range(number)]
    processes = [
        spawn.Process(target=work, args=(url, host, many, sleep, begin, end))
        for host, many in enumerate(share)
    ]
    for process in processes:
        process.start()
    begin.wait()
    began = time.perf_counter()
    end.wait()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return 60 * workers * rounds / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4,8,16,32")
    parser.add_argument("--sleep", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--studies", type=int, default=100, help="for the cost of each step")
    given = parser.parse_args()
    many = [int(number) for number in given.workers.split(",")]
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_postgres(**DURABLE))
        urls = {"SQLite": f"sqlite:///{folder / 'node.sqlite3'}", "PostgreSQL": server.url()}
        profiles = []
        print("| database | arrive | route | claim | finish | deliver | ms per study |")
        for name, url in urls.items():
            database = Database(url)
            database.migrate()
            cost(database, 1, 10)  # warm
            before, meter = kept(database), Meter(database)
            found = cost(database, 1000, given.studies)
            spent, after = meter.stop(), kept(database)
            parts = (found.arrive, found.route, found.claim, found.finish, found.deliver)
            cells = " | ".join(f"{part:.1f}" for part in parts)
            print(f"| {name} | {cells} | {found.sum:.1f} |", flush=True)
            profiles.append(f"| {name} | {spent.of(given.studies, found.sum)} |")
            profiles[-1] += after.of(before, given.studies)
            database.close()
        print(
            "| database | transactions | statements | ms in statements | ms in commits "
            "| ms between | rows | KB |"
        )
        print("\n".join(profiles), flush=True)
        print("| database | workers | studies/min | of what sleeping allows |")
        first = 100_000
        for workers in many:
            for name, url in urls.items():
                rate = throughput(url, first, workers, given.sleep, given.rounds)
                ideal = 60 * workers / given.sleep
                print(f"| {name} | {workers} | {rate:.0f} | {rate / ideal:.0%} |", flush=True)
            first += workers * given.rounds
        print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
