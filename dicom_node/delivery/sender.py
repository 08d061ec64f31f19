"""One sender per peer, so that a dead or slow peer holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from dicom_node.clock import Clock
from dicom_node.delivery.retry import RetryStrategy
from dicom_node.delivery.scu import Answer, Outgoing, Store, Verdict
from dicom_node.model.peers import Peer
from dicom_node.store import outbox
from dicom_node.store.database import Database
from dicom_node.store.tables import Delivery

_log = structlog.get_logger()


class PeerSender:
    """Sends what is due for one peer."""

    def __init__(
        self,
        name: str,
        peer: Peer,
        *,
        database: Database,
        reports_dir: Path,
        store: Store,
        retry: RetryStrategy,
        clock: Clock,
    ) -> None:
        self.name = name
        self._peer = peer
        self._database = database
        self._reports_dir = reports_dir
        self._store = store
        self._retry = retry
        self._clock = clock

    def send_due(self) -> int:
        """Send the deliveries that are due; returns how many were tried."""
        with self._database.read() as session:
            due = list(outbox.due(session, self.name, self._clock.now()))
        if not due:
            return 0
        by_id = {delivery.id: delivery for delivery in due}
        # each answer is recorded at once: what follows may never return
        for answer in self._store(self._peer, self._outgoing(due)):
            self._record(by_id[answer.id], answer)
        return len(due)

    def _outgoing(self, due: Sequence[Delivery]) -> list[Outgoing]:
        return [
            Outgoing(
                delivery.id,
                self._reports_dir / delivery.report.path,
                delivery.report.sop_class_uid,
            )
            for delivery in due
        ]

    def _record(self, delivery: Delivery, answer: Answer) -> None:
        now = self._clock.now()
        log = _log.bind(
            peer=self.name,
            delivery_id=delivery.id,
            study_uid=delivery.report.job.study.study_instance_uid,
            sop_instance_uid=delivery.report.sop_instance_uid,
            answer=answer.text,
        )
        with self._database.write() as session:
            if answer.verdict is Verdict.SENT:
                outbox.mark_sent(session, delivery.id, answer.text, now)
                log.info("report_sent")
                return
            again = None
            if answer.verdict is Verdict.TRY_AGAIN:
                again = self._retry.next_attempt(delivery.attempts + 1, delivery.queued_at, now)
            if again is None:
                outbox.mark_failed(session, delivery.id, answer.text, now)
                log.error("report_failed", fix=f"mend the peer, then `retry --peer {self.name}`")
            else:
                outbox.mark_again(session, delivery.id, answer.text, now, again)
                log.warning("report_delayed", next_attempt_at=again.isoformat())


class Outbox:
    """Runs one thread per peer until it is stopped."""

    def __init__(self, senders: Sequence[PeerSender], idle: timedelta) -> None:
        self._idle = idle.total_seconds()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(sender,), name=f"sender-{sender.name}")
            for sender in senders
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the object in hand."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def alive(self) -> bool:
        """False when a sender has died: the process should end, to be restarted."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self, sender: PeerSender) -> None:
        while not self._stop.is_set():
            if sender.send_due() == 0:
                self._stop.wait(self._idle)
