"""Processes that work on one database all at once, as a node's roles do, with sleeps for models."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing.synchronize import Event
from typing import Final

from sqlalchemy.orm import Session

from dicom_node.clock import SystemClock
from dicom_node.model.states import JobState, StudyState
from dicom_node.store import audit, index, jobs, losses, outbox, withheld
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.losses import LossPolicy
from dicom_node.store.tables import Study
from tests.factories import facts

PIPELINES: Final = ("kl", "bone")
PEERS: Final = ("pacs", "archive")
QUIET: Final = timedelta(milliseconds=150)
RAN: Final = "hammer_ran"
"""Audit event of a run that was kept."""


def send(url: str, studies: int, number: int) -> None:
    """A receiver and its index: images come, some of them late."""
    database, clock, chance = Database(url), SystemClock(), random.Random(number)
    late: list[tuple[str, str]] = []
    for study in range(studies):
        uid = f"1.2.{number}.{study + 1}"
        images = [(uid, f"{uid}.{image}") for image in range(1, 4)]
        late.append(images.pop())
        for item in (*images, *([late.pop(0)] if chance.random() < 0.5 else [])):
            _arrive(database, clock, *item)
    for item in late:
        _arrive(database, clock, *item)
    database.close()


def _arrive(database: Database, clock: SystemClock, study: str, sop: str) -> None:
    now = clock.now()
    item = facts(study=study, series=f"{study}.9", sop=sop, sender=f"XR{study[4]}")
    with database.write(alone=False) as session:
        audit.record(session, now, "association_accepted", peer=item.sender)
    with database.write() as session:
        index.add_instance(session, index.Arrival(item, f"s/{sop}", sop, now), now)


def coordinate(url: str, stop: Event) -> None:
    """Settle, route, take back; until told to stop."""
    database, clock = Database(url), SystemClock()
    policy = LossPolicy(99)
    while not stop.is_set():
        now = clock.now()
        with database.write() as session:
            index.settle_quiet(session, now, QUIET)
        with database.read() as session:
            waiting = [study.id for study in index.to_route(session)]
        for study_id in waiting:
            with database.write() as session:
                _route(session, session.get_one(Study, study_id), clock)
        with database.write() as session:
            losses.requeue_lost(session, clock.now(), policy)
        stop.wait(0.02)
    database.close()


def _route(session: Session, study: Study, clock: SystemClock) -> None:
    if study.state != StudyState.SETTLED:
        return
    now = clock.now()
    found = index.facts_of_study(session, study)
    inputs = [item.sop_instance_uid for item in found]
    for name in PIPELINES:
        new = NewJob(name, "1", "w", inputs, list(PEERS), "all", sender=found[0].sender)
        jobs.enqueue(session, study, new, now)
    study.routed_revision = study.revision
    withheld.deliver_withheld(session, study, now)


def work(url: str, name: str, stop: Event, forgets: float) -> None:
    """A worker: claims, sleeps, renews, finishes; sometimes dies without a word."""
    database, clock, chance = Database(url), SystemClock(), random.Random(name)
    lease = timedelta(milliseconds=400)
    while not stop.is_set():
        with database.write(alone=False) as session:
            batch = jobs.claim_batch(session, name, clock.now(), lease, lambda _: 2)
            # of the attempt that we have, whoever may take the job away later
            claimed = [(job.id, job.attempts, job.input_key) for job in batch]
        if not claimed:
            stop.wait(0.02)
            continue
        for job_id, attempt, key in claimed:
            if chance.random() < forgets:
                continue
            stop.wait(0.005)
            with database.write(alone=False) as session:
                jobs.renew(session, job_id, name, clock.now() + lease)
            uid = f"2.25.{int(key[:24], 16)}"
            reports = [NewReport(kind, "1.2", f"{uid}.{kind}", "x", "h") for kind in ("1", "2")]
            with database.write(alone=False) as session:
                result = JobResult(JobState.DONE, reports, [("statement", {"attempt": attempt})])
                if jobs.finish(session, job_id, name, result, clock.now()):
                    audit.record(session, clock.now(), RAN, job_id=job_id, attempt=str(attempt))
    database.close()


def deliver(url: str, peer: str, stop: Event) -> None:
    """A sender: every second answer is a failure."""
    database, clock, chance = Database(url), SystemClock(), random.Random(peer)
    while not stop.is_set():
        with database.read() as session:
            due = [row.id for row in outbox.due(session, peer, clock.now())]
        for delivery_id in due:
            now = clock.now()
            with database.write(alone=False) as session:
                if chance.random() < 0.5:
                    outbox.mark_sent(session, delivery_id, "0x0000", now)
                else:
                    outbox.mark_again(session, delivery_id, "away", now, now)
        if not due:
            stop.wait(0.02)
    database.close()


def side_by_side(works: list[Callable[[], None]]) -> None:
    """Run several in threads of this process; the first error ends the process with it."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def workers(url: str, host: str, number: int, stop: Event) -> None:
    """A host's workers."""
    side_by_side([partial(work, url, f"{host}-{one}", stop, 0.05) for one in range(number)])


def rest(url: str, stop: Event) -> None:
    """The coordinator and its senders."""
    side_by_side(
        [partial(coordinate, url, stop), *(partial(deliver, url, peer, stop) for peer in PEERS)]
    )
