"""Many processes on one database at once: no job runs twice, none is lost."""

from __future__ import annotations

import multiprocessing
from collections import Counter

from sqlalchemy import func, select

from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent, Delivery, FindingRow, Instance, Job, Report, Study
from tests.peers.ports import wait_for
from tests.unit.store import hammer

STUDIES = 8
SENDERS = 2


def test_no_job_runs_twice_and_none_is_lost(database: Database) -> None:
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    processes = [
        *(
            spawn.Process(target=hammer.send, args=(database.url, STUDIES, number))
            for number in range(SENDERS)
        ),
        *(
            spawn.Process(target=hammer.workers, args=(database.url, host, 3, stop))
            for host in ("one", "two")
        ),
        spawn.Process(target=hammer.rest, args=(database.url, stop)),
    ]
    for process in processes:
        process.start()

    def ended() -> bool:
        assert not any(process.exitcode for process in processes), "one has died"
        return not any(process.is_alive() for process in processes[:SENDERS]) and _ended(database)

    try:
        wait_for("the end of all studies", ended, 120)
    finally:
        stop.set()
        for process in processes:
            process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    _check(database)


def _ended(database: Database) -> bool:
    with database.read() as session:
        open_rows = (
            select(func.count()).where(Study.state != StudyState.SETTLED),
            select(func.count()).where(Study.routed_revision < Study.revision),
            select(func.count()).where(Job.state.in_((JobState.QUEUED, JobState.RUNNING))),
            select(func.count()).where(Delivery.state == DeliveryState.PENDING),
        )
        return not any(session.scalar(query) for query in open_rows)


def _check(database: Database) -> None:
    with database.read() as session:
        assert session.scalar(select(func.count(Instance.id))) == SENDERS * STUDIES * 3
        # the last word on each study is on all of its images, and is delivered once to each peer
        last = session.execute(
            select(Job.id, Job.study_id, Job.pipeline, Job.inputs, Job.state).where(
                Job.superseded_by.is_(None)
            )
        ).all()
        assert len(last) == SENDERS * STUDIES * len(hammer.PIPELINES)
        assert {(len(job.inputs), job.state) for job in last} == {(3, JobState.DONE)}
        sent = Counter(
            session.execute(
                select(Report.job_id, Delivery.peer)
                .join(Delivery, Delivery.report_id == Report.id)
                .where(Delivery.state == DeliveryState.SENT)
            ).tuples()
        )
        assert {sent[job.id, peer] for job in last for peer in hammer.PEERS} == {2}
        # of each attempt one worker's result was kept, and of each job the last one's
        kept = session.scalars(select(AuditEvent.job_id).where(AuditEvent.kind == hammer.RAN)).all()
        assert set(Counter(kept).values()) == {1}
        findings = Counter(session.scalars(select(FindingRow.job_id)))
        assert set(findings.values()) == {1}
