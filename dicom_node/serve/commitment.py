"""Storage commitment: requests into the database, the disk read again, the peers told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.delivery import RetryStrategy, take_report
from dicom_node.errors import HostAwayError, ImageError, StoreError
from dicom_node.hosts.files import Files
from dicom_node.model.commitment import (
    CommitmentReport,
    CommitmentRequest,
    CommitmentResult,
    CommitmentState,
    FailureReason,
    Reference,
)
from dicom_node.model.peers import Peer
from dicom_node.receive.commitment import report
from dicom_node.store import commitments, hosts
from dicom_node.store.database import Database
from dicom_node.store.kept import kept_instance
from dicom_node.store.seal import reread_sha256
from dicom_node.store.tables import Commitment, Instance

_log = structlog.get_logger()

_HELD: Final = timedelta(seconds=15)
"""How long a report is left to the association of its request."""
_REPORTING: Final = timedelta(seconds=60)
"""How long an attempt to report may take before another may begin."""


class CommitmentBook:
    """The receivers' side: `model.commitment.Commitments` on the database.

    Args:
        resend_after: The wait before an object that a peer does not commit to is sent again.
    """

    def __init__(
        self, database: Database, clock: Clock, resend_after: timedelta = timedelta(seconds=5)
    ) -> None:
        self._database = database
        self._clock = clock
        self._resend_after = resend_after

    def take(self, request: CommitmentRequest) -> bool:
        """Keep a request; committed when this returns."""
        with self._write() as session:
            return commitments.take(session, request, self._clock.now(), _HELD)

    def claim(self, calling_ae: str, transaction_uid: str) -> CommitmentResult | None:
        """Return a result that is there and ours to report."""
        try:
            with self._database.read() as session:
                row = commitments.find(session, calling_ae, transaction_uid)
                if row is None or row.state != CommitmentState.VERIFIED:
                    return None
        except SQLAlchemyError as error:
            raise _refused(error) from None
        with self._write() as session:
            row = commitments.find(session, calling_ae, transaction_uid)
            # an association of our own may have begun to report it since
            if row is None or row.state != CommitmentState.VERIFIED or not row.held:
                return None
            row.not_before = self._clock.now() + _REPORTING
            return commitments.result_of(row)

    def reported(self, result: CommitmentResult) -> None:
        """The peer has confirmed."""
        with self._write() as session:
            row = commitments.find(session, result.calling_ae, result.transaction_uid)
            if row is not None and row.state == CommitmentState.VERIFIED:
                commitments.reported(
                    session, row, "status 0x0000, same association", self._clock.now()
                )

    def let_go(self, calling_ae: str, transaction_uid: str) -> None:
        """The report is due by another association, now."""
        with self._write() as session:
            row = commitments.find(session, calling_ae, transaction_uid)
            if row is not None and row.held:
                row.held, row.not_before = False, self._clock.now()

    def told(self, calling_ae: str, report: CommitmentReport) -> bool:
        """A peer reports on what we have sent to it."""
        try:
            return take_report(
                self._database, calling_ae, report, self._clock.now(), self._resend_after
            )
        except SQLAlchemyError as error:
            raise _refused(error) from None

    @contextmanager
    def _write(self) -> Iterator[Session]:
        try:
            with self._database.write() as session:
                yield session
        except SQLAlchemyError as error:
            raise _refused(error) from None


class CommitmentDesk:
    """The coordinator's side: looks into requests and reports what no association has.

    Args:
        index_waiting: Indexes what the spool's inbox holds, so that it can be found.
        files: The way to what other hosts hold; None: all is in the spool.
    """

    def __init__(
        self,
        config: NodeConfig,
        database: Database,
        index_waiting: Callable[[], object],
        retry: RetryStrategy,
        clock: Clock,
        files: Files | None = None,
    ) -> None:
        self._spool = config.spool_dir
        self._files = files
        self._longest_wait = timedelta(seconds=config.settle.longest_wait_seconds)
        self._peers = {peer.ae_title: peer for peer in config.dicom_peers.values()}
        self._database = database
        self._index_waiting = index_waiting
        self._retry = retry
        self._clock = clock

    def verify_commitments(self) -> None:
        """Read again what peers ask about, and note what is not safe."""
        with self._database.read() as session:
            rows = commitments.requested(session)
        if not rows:
            return
        # what was acknowledged a moment ago may not be in the index yet
        self._index_waiting()
        for row in rows:
            references = [Reference(*item) for item in row.references]
            with self._database.read() as session:
                kept = commitments.kept(session, references)
                if len(kept) < len(references) and self._may_yet_come(session, row):
                    continue
            try:
                failed = {
                    reference: reason
                    for reference in references
                    if (reason := self._why_not(reference, kept.get(reference.sop_instance_uid)))
                }
            except HostAwayError:
                continue  # looked into when it is back; the log has it from who asked
            with self._database.write() as session:
                now = self._clock.now()
                # asked again meanwhile, it is the same request: the answer is as good
                commitments.verified(session, session.get_one(Commitment, row.id), failed, now)
            _log.info(
                "commitment_verified",
                peer=row.calling_ae,
                transaction_uid=row.transaction_uid,
                committed=len(references) - len(failed),
                failed=len(failed),
            )

    def report_commitments(self) -> None:
        """Report the results that are due, by an association each."""
        away: set[str] = set()
        with self._database.read() as session:
            ids = [row.id for row in commitments.due(session, self._clock.now())]
        for row_id in ids:
            with self._database.write() as session:
                row = session.get_one(Commitment, row_id)
                if not commitments.begin_report(row, self._clock.now(), _REPORTING):
                    continue
            peer = self._peers.get(row.calling_ae)
            if peer is None:
                self._give_up(row_id, "no peer has this AE title (add it to `peers`)")
            elif peer.ae_title in away:
                self._note(row_id, "the peer was away a moment ago")
            elif not self._report(row_id, peer):
                away.add(peer.ae_title)

    def _report(self, row_id: int, peer: Peer) -> bool:
        with self._database.read() as session:
            result = commitments.result_of(session.get_one(Commitment, row_id))
        why = report(peer, result)
        self._note(row_id, why)
        return why is None

    def _note(self, row_id: int, why: str | None) -> None:
        """Note the outcome of an attempt; None: the peer has confirmed."""
        with self._database.write() as session:
            row = session.get_one(Commitment, row_id)
            now = self._clock.now()
            if why is None:
                commitments.reported(session, row, "status 0x0000, own association", now)
                return
            at = self._retry.next_attempt(row.attempts + 1, row.requested_at, now)
            if at is not None:
                commitments.again(session, row, why, now, at)
        if at is None:
            self._give_up(row_id, why)
        else:
            _log.warning("commitment_delayed", peer=row.calling_ae, why=why)

    def _give_up(self, row_id: int, why: str) -> None:
        with self._database.write() as session:
            row = session.get_one(Commitment, row_id)
            commitments.give_up(session, row, why, self._clock.now())
        _log.error("commitment_failed", peer=row.calling_ae, why=why)

    def _why_not(self, reference: Reference, row: Instance | None) -> FailureReason | None:
        """Tell why an instance cannot be committed; None: it is on disk, every byte of it."""
        if row is None:
            return FailureReason.NO_SUCH_INSTANCE
        if row.sop_class_uid != reference.sop_class_uid:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        why = self._damage(row)
        if why:
            _log.error("instance_damaged", sop_instance_uid=reference.sop_instance_uid, why=why)
            return FailureReason.PROCESSING_FAILURE
        return None

    def _damage(self, row: Instance) -> str:
        """Say what is wrong with an instance's file; "": nothing.

        Raises:
            HostAwayError: The host that holds it does not answer.
        """
        try:
            elsewhere = self._files.disk_sha256(kept_instance(row)) if self._files else None
            found = reread_sha256(self._spool / row.path) if elsewhere is None else elsewhere
        except ImageError as error:
            return error.why
        except OSError as error:
            return error.strerror or type(error).__name__
        return "" if found == row.sha256 else "its bytes are not those that came"

    def _may_yet_come(self, session: Session, row: Commitment) -> bool:
        """Whether a host has acknowledged images that the index does not have yet."""
        if self._clock.now() - row.requested_at > self._longest_wait:
            return False
        return any(
            host.state.receives and host.indexed_to < row.requested_at
            for host in hosts.lines(session)
        )


def _refused(error: SQLAlchemyError) -> StoreError:
    return StoreError("storage commitment", type(error).__name__, "check the database")
