"""One sender per peer, so that a dead or slow peer holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog
from pydicom.uid import UID

from dicom_node.clock import Clock
from dicom_node.delivery.answers import Answer, Destination, Outgoing, Verdict
from dicom_node.delivery.commitment import CommitmentAsker
from dicom_node.delivery.retry import RetryStrategy
from dicom_node.errors import ImageError, NodeError
from dicom_node.logs import error_facts
from dicom_node.model.documents import DocumentClass
from dicom_node.store import outbox
from dicom_node.store.database import Database
from dicom_node.store.kept import KeptFile, kept_report
from dicom_node.store.tables import Delivery
from dicom_node.store.wake import Polling, Wake

_log = structlog.get_logger()

_NO_FILE: Final = timedelta(seconds=10)
"""How long an object waits whose host does not answer."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds that a sender waits at most after an error of its own."""


class FileSource(Protocol):
    """The way to files, whichever host holds them."""

    def path(self, kept: KeptFile, user: Hashable) -> Path:
        """Return a file that stays until `release`.

        Raises:
            ImageError: There is none any more.
            NodeError: It cannot be had at the moment.
        """
        ...

    def release(self, user: Hashable) -> None: ...


@dataclass(frozen=True, slots=True)
class _Folder:
    """All files are in one folder."""

    root: Path

    def path(self, kept: KeptFile, user: Hashable) -> Path:
        return self.root / kept.path

    def release(self, user: Hashable) -> None:
        pass


class PeerSender:
    """Sends what is due for one peer.

    Args:
        files: The way to what other hosts hold; None: all is in the folder.
        asker: Asks the peer to commit to what it has; None: "sent" is the end.
        sr_classes: In which the peer gets an SR, best first.
    """

    def __init__(
        self,
        name: str,
        destination: Destination,
        *,
        database: Database,
        reports_dir: Path,
        retry: RetryStrategy,
        clock: Clock,
        asker: CommitmentAsker | None = None,
        sr_classes: Sequence[DocumentClass] = tuple(DocumentClass),
        files: FileSource | None = None,
    ) -> None:
        self.name = name
        self._destination = destination
        self._database = database
        self._files = files or _Folder(reports_dir)
        self._retry = retry
        self._clock = clock
        self._asker = asker
        self._sr_classes = sr_classes

    def work(self) -> int:
        """Send what is due; when nothing is, ask about what was sent. Returns the number."""
        tried = self.send_due()
        return tried or (self._asker.ask_due() if self._asker is not None else 0)

    def send_due(self) -> int:
        """Send the deliveries that are due; returns how many were tried."""
        with self._database.read() as session:
            due = list(outbox.due(session, self.name, self._clock.now()))
        if not due:
            return 0
        by_id = {delivery.id: delivery for delivery in due}
        away: list[Answer] = []
        began = time.monotonic()
        # each answer is recorded at once: what follows may never return
        outgoing = self._outgoing(due)
        for answer in self._destination.send(outgoing) if outgoing else ():
            if answer.away:
                away.append(answer)
            else:
                self._record(by_id[answer.id], answer, time.monotonic() - began)
            began = time.monotonic()
        self._files.release(self.name)
        if away:
            self._record_away([by_id[answer.id] for answer in away], away[0].text)
        return len(due)

    def _outgoing(self, due: Sequence[Delivery]) -> list[Outgoing]:
        found = []
        for delivery in due:
            try:
                found.append(self._forms(delivery))
            except ImageError as error:
                self._record(delivery, Answer(delivery.id, Verdict.NEVER, error.why), 0)
            except NodeError as error:
                self._wait_for_file(delivery, error)
        return found

    def _forms(self, delivery: Delivery) -> Outgoing:
        """A delivery's object with its alternatives, in the order that the peer wants."""
        report = delivery.report
        forms = {report.sop_class_uid: kept_report(report)}
        forms |= {
            other["sop_class_uid"]: kept_report(report, other)
            for other in report.alternatives or ()
        }
        # one that was made in none of the classes goes as it is
        wanted = [kind.uid for kind in self._sr_classes if kind.uid in forms]
        first, *others = [
            Outgoing(delivery.id, self._files.path(forms[uid], self.name), uid)
            for uid in wanted or [report.sop_class_uid]
        ]
        return replace(first, alternatives=tuple(others))

    def _record(self, delivery: Delivery, answer: Answer, seconds: float) -> None:
        now = self._clock.now()
        other = _alternative(delivery, answer)
        text = f"{answer.text}, as {UID(other['sop_class_uid']).name}" if other else answer.text
        log = _log.bind(
            peer=self.name,
            delivery_id=delivery.id,
            study_uid=delivery.report.job.study.study_instance_uid,
            sop_instance_uid=delivery.report.sop_instance_uid,
            answer=text,
        )
        with self._database.write(alone=False) as session:
            if answer.verdict is Verdict.SENT:
                ask = self._asker is not None
                sent_as = other["sop_instance_uid"] if other else None
                took = {"seconds": round(seconds, 3)}
                if answer.seconds is not None:
                    took["peer_seconds"] = round(answer.seconds, 3)
                outbox.mark_sent(session, delivery.id, text, now, ask=ask, sent_as=sent_as, **took)
                log.info("report_sent")
                return
            again = None
            if answer.verdict is Verdict.TRY_AGAIN:
                again = self._retry.next_attempt(delivery.attempts + 1, delivery.queued_at, now)
            if again is None:
                outbox.mark_failed(session, delivery.id, text, now)
                log.error("report_failed", fix=f"mend the peer, then `retry --peer {self.name}`")
            else:
                outbox.mark_again(session, delivery.id, text, now, again)
                log.warning("report_delayed", next_attempt_at=again.isoformat())

    def _wait_for_file(self, delivery: Delivery, error: NodeError) -> None:
        """The host that holds the object does not answer: the peer has nothing to do with it."""
        why = f"{error.what}: {error.why}"
        now = self._clock.now()
        with self._database.write(alone=False) as session:
            first = outbox.wait(session, delivery.id, why, now, now + _NO_FILE)
        if first:
            uid = delivery.report.job.study.study_instance_uid
            _log.warning("report_waits_for_host", study_uid=uid, peer=self.name, why=why)

    def _record_away(self, deliveries: Sequence[Delivery], why: str) -> None:
        """The peer could not be reached: noted at one stroke, to come back at one moment."""
        now = self._clock.now()
        jitter = self._retry.jitter()
        retry = replace(self._retry, jitter=lambda: jitter)
        given_up = 0
        with self._database.write(alone=False) as session:
            for delivery in deliveries:
                again = retry.next_attempt(delivery.attempts + 1, delivery.queued_at, now)
                if again is None:
                    given_up += 1
                    outbox.mark_failed(session, delivery.id, why, now)
                else:
                    outbox.mark_again(session, delivery.id, why, now, again)
        log = _log.bind(peer=self.name, answer=why)
        if given_up:
            fix = f"mend the peer, then `retry --peer {self.name}`"
            log.error("report_failed", objects=given_up, fix=fix)
        if len(deliveries) > given_up:
            log.warning("peer_away", objects=len(deliveries) - given_up)


def _alternative(delivery: Delivery, answer: Answer) -> dict[str, str] | None:
    """The form that was sent, if it was not the report itself."""
    for other in delivery.report.alternatives or ():
        if other["sop_class_uid"] == answer.sop_class_uid:
            return dict(other)
    return None


class Outbox:
    """Runs one thread per peer until it is stopped; safe to be used by several threads.

    Args:
        wake: Returns what one sender waits on when nothing is due.
    """

    def __init__(
        self, senders: Sequence[PeerSender], idle: timedelta, wake: Callable[[], Wake] = Polling
    ) -> None:
        self._idle = idle.total_seconds()
        self._wake = wake
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._started = False
        self._threads: dict[str, threading.Thread] = {}
        for sender in senders:
            self.add(sender)

    def add(self, sender: PeerSender) -> None:
        """Let a peer that has no sender have one; after `stop`, it does not begin."""
        with self._lock:
            if sender.name in self._threads or self._stop.is_set():
                return
            thread = threading.Thread(
                target=self._run, args=(sender, self._wake()), name=f"sender-{sender.name}"
            )
            if self._started:
                thread.start()
            self._threads[sender.name] = thread

    @property
    def peers(self) -> frozenset[str]:
        """The peers that have a sender."""
        with self._lock:
            return frozenset(self._threads)

    def start(self) -> None:
        with self._lock:
            self._started = True
            for thread in self._threads.values():
                thread.start()

    def stop(self) -> None:
        """Stop after the object in hand."""
        self._stop.set()
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join()

    @property
    def alive(self) -> bool:
        """False when a sender has died: the process should end, to be restarted."""
        with self._lock:
            return all(thread.is_alive() for thread in self._threads.values())

    def _run(self, sender: PeerSender, wake: Wake) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                worked = sender.work()
            except Exception as error:  # noqa: BLE001 - one peer's trouble must not stop the others
                failures += 1
                _log.error("sender_failed", peer=sender.name, **error_facts(error))
                self._stop.wait(min(self._idle * 2**failures, _LONGEST_PAUSE))
                continue
            failures = 0
            if not worked:
                wake.wait(self._stop, self._idle)
