"""A store whose clock a test moves: studies that come late, are held, or lose their workers."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from dicom_node.model.states import JobState, StudyState
from dicom_node.store import held, index, jobs, losses, outbox, withheld
from dicom_node.store.database import Database
from dicom_node.store.jobs import JobResult, NewJob, NewReport
from dicom_node.store.losses import Loss, LossPolicy
from dicom_node.store.tables import AuditEvent, Delivery, Job, Study
from tests.factories import ManualClock, facts

LEASE = timedelta(seconds=30)
POLICY = LossPolicy(2, timedelta(seconds=5), quarantine_after=3, report_failures=True)
CRASH = Loss("crashed", "it crashed its worker with signal 11 (SIGSEGV)", blamed=True)
JANE = {"PatientID": "4711", "PatientName": "Doe^Jane"}
RICHARD = {"PatientID": "4712", "PatientName": "Roe^Richard"}


class Store:
    """The index and the queues, one step at a time."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, ManualClock()

    def arrive(
        self, sop: str, study: str = "1.2.3", sha256: str = "", hold: bool = True, **of: object
    ) -> index.Indexed:
        item = facts(study=study, series=f"{study}.1", sop=sop, **of)  # type: ignore[arg-type]
        now = self.clock.now()
        arrival = index.Arrival(item, f"studies/{sop}", sha256 or sop, now)
        with self.database.write() as session:
            return index.add_instance(session, arrival, now, hold_changed_patient=hold)

    def route(
        self, *inputs: str, study: str = "1.2.3", pipeline: str = "kl", version: str = "1"
    ) -> None:
        """Settle a study and decide on it, as the coordinator does."""
        now = self.clock.now()
        with self.database.write() as session:
            row = held.find(session, study)
            if row.state == StudyState.RECEIVING:
                row.state, row.settled_at = StudyState.SETTLED, now
                row.revision += 1
            new = NewJob(pipeline, version, "w", list(inputs), ["pacs"], "route knees")
            jobs.enqueue(session, row, new, now)
            row.routed_revision = row.revision
            withheld.deliver_withheld(session, row, now)

    def claim(self, worker: str = "worker-0") -> Job | None:
        with self.database.write() as session:
            return jobs.claim(session, worker, self.clock.now(), LEASE)

    def finish(self, job: Job, worker: str = "worker-0") -> None:
        report = NewReport("SR", "1.2", f"2.25.{job.id}", f"s/{job.id}.dcm", "h")
        result = JobResult(JobState.DONE, [report], [("statement", {"text": "KL 2"})])
        with self.database.write() as session:
            assert jobs.finish(session, job.id, worker, result, self.clock.now())

    def lose(self, loss: Loss | None = CRASH, worker: str = "worker-0") -> None:
        with self.database.write() as session:
            losses.requeue_lost(
                session,
                self.clock.now(),
                POLICY,
                worker=worker,
                loss=None if loss is None else lambda _: loss,
            )

    def job(self, number: int) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, number)

    def study(self, uid: str = "1.2.3") -> Study:
        with self.database.read() as session:
            return held.find(session, uid)

    def deliveries(self) -> list[str]:
        with self.database.read() as session:
            return list(session.scalars(select(Delivery.state).order_by(Delivery.id)))

    def due(self) -> int:
        with self.database.read() as session:
            return len(outbox.due(session, "pacs", self.clock.now()))

    def sent(self, number: int) -> None:
        with self.database.write() as session:
            outbox.mark_sent(session, number, "status 0x0000 (Success)", self.clock.now())

    def events(self, kind: str) -> list[dict[str, object]]:
        with self.database.read() as session:
            rows = session.scalars(select(AuditEvent).where(AuditEvent.kind == kind))
            return [row.data for row in rows]

    def release(self, uid: str = "1.2.3") -> list[int]:
        with self.database.write() as session:
            row = held.find(session, uid)
            return held.release(session, row, self.clock.now(), "admin", "looked at")
