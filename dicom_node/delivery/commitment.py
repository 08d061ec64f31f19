"""What was sent to one peer is asked about until the peer has committed to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from pydicom.uid import generate_uid

from dicom_node.clock import Clock
from dicom_node.delivery.asking import Asked, Outcome, Question
from dicom_node.delivery.retry import RetryStrategy
from dicom_node.model.commitment import CommitmentReport
from dicom_node.model.peers import Peer
from dicom_node.store import asked_commitments
from dicom_node.store.database import Database
from dicom_node.store.tables import AskedCommitment, Delivery

_log = structlog.get_logger()

_TAKEN: Final = 0x0000
_NOT_ASKED: Final = 0x0115

Ask = Callable[[Callable[[], Question]], Asked]
"""`asking.ask` of one peer."""


def take_report(
    database: Database, calling_ae: str, report: CommitmentReport, now: datetime, wait: timedelta
) -> bool:
    """Note a peer's report, by whichever association it came; False: it was not asked.

    Args:
        wait: Before an object that the peer does not commit to is sent again.
    """
    with database.write() as session:
        told = asked_commitments.told(session, calling_ae, report, now, wait)
    if told is None:
        _log.warning(
            "commitment_report_unknown", peer=calling_ae, transaction_uid=report.transaction_uid
        )
        return False
    log = _log.bind(peer=told.peer, transaction_uid=report.transaction_uid)
    log.info("reports_committed", committed=told.committed, sent_again=told.sent_again)
    if told.failed:
        _log_failed(told.peer, told.failed)
    return True


def _log_failed(peer: str, number: int) -> None:
    _log.error(
        "report_failed",
        peer=peer,
        objects=number,
        answer="sent, but the peer does not commit to it",
        fix=f"mend the peer, then `retry --peer {peer}`",
    )


class CommitmentAsker:
    """Asks one peer, which is configured with `storage_commitment`."""

    def __init__(
        self,
        name: str,
        peer: Peer,
        *,
        database: Database,
        retry: RetryStrategy,
        clock: Clock,
        ask: Ask,
    ) -> None:
        self._name = name
        self._peer = peer
        self._database = database
        self._retry = retry
        self._clock = clock
        self._ask = ask

    def ask_due(self) -> int:
        """Ask about what is due, all in one request; returns the number of objects."""
        now = self._clock.now()
        with self._database.read() as session:
            due = list(asked_commitments.due(session, self._name, now))
        in_vain = [row for row in due if row.asked >= asked_commitments.ASKS]
        if in_vain:
            why = f"not committed: asked {asked_commitments.ASKS} times, no report came"
            self._send_again(in_vain, why)
        waiting = [row for row in due if row.asked < asked_commitments.ASKS]
        if waiting:
            asked = self._ask(partial(self._begin, waiting))
            self._note(waiting, asked)
        return len(due)

    def _begin(self, rows: Sequence[Delivery]) -> Question:
        now = self._clock.now()
        transaction_uid = generate_uid(prefix=None)
        references = [asked_commitments.reference_of(row) for row in rows]
        request = AskedCommitment(
            transaction_uid=transaction_uid,
            peer=self._name,
            ae_title=self._peer.ae_title,
            references=[list(reference) for reference in references],
            requested_at=now,
        )
        until = now + timedelta(seconds=self._peer.commitment_timeout_seconds)
        with self._database.write() as session:
            asked_commitments.begin(session, [row.id for row in rows], request, until)
        return Question(transaction_uid, references, self._take)

    def _take(self, report: CommitmentReport) -> int:
        known = take_report(
            self._database, self._peer.ae_title, report, self._clock.now(), self._retry.first
        )
        return _TAKEN if known else _NOT_ASKED

    def _note(self, rows: Sequence[Delivery], asked: Asked) -> None:
        log = _log.bind(peer=self._name, objects=len(rows))
        ids = [row.id for row in rows]
        now = self._clock.now()
        if asked.outcome is Outcome.TAKEN:
            log.info("commitment_asked")
        elif asked.outcome is Outcome.NOT_OFFERED:
            with self._database.write() as session:
                asked_commitments.ask_no_more(session, ids, asked.text, now)
            log.error("commitment_not_offered", why=asked.text)
        else:
            since = min(row.sent_at or now for row in rows)
            at = self._retry.next_by_age(since, now)
            if at is None:
                self._send_again(rows, f"not committed: {asked.text}")
                return
            with self._database.write() as session:
                asked_commitments.ask_later(session, ids, asked.text, now, at)
            log.warning("commitment_ask_delayed", why=asked.text, next_attempt_at=at.isoformat())

    def _send_again(self, rows: Sequence[Delivery], why: str) -> None:
        with self._database.write() as session:
            again, failed = asked_commitments.send_again(
                session, [row.id for row in rows], why, self._clock.now(), self._retry.first
            )
        if again:
            _log.warning("reports_sent_again", peer=self._name, objects=again, why=why)
        if failed:
            _log_failed(self._name, failed)
