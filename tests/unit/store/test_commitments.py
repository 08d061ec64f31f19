"""Storage commitment requests in the database: when they are due, and whose they are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.model.commitment import CommitmentRequest, FailureReason, Reference
from dicom_node.store import commitments
from dicom_node.store.database import Database
from tests.factories import ManualClock

HELD = timedelta(seconds=15)
MINUTE = timedelta(minutes=1)
ONE, OTHER = Reference("1.2", "1.2.3"), Reference("1.2", "1.2.4")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def request(*references: Reference, peer: str = "XR") -> CommitmentRequest:
    return CommitmentRequest("1.2.9", peer, "AINODE", references or (ONE,))


def take_and_verify(database: Database, clock: ManualClock) -> None:
    with database.write() as session:
        assert commitments.take(session, request(ONE, OTHER), clock.now(), HELD)
        (row,) = commitments.requested(session)
        failed = {OTHER: FailureReason.NO_SUCH_INSTANCE}
        commitments.verified(session, row, failed, clock.now())


def due(database: Database, clock: ManualClock) -> int:
    with database.read() as session:
        return len(commitments.due(session, clock.now()))


def test_a_result_is_left_to_its_association_for_a_while(
    database: Database, clock: ManualClock
) -> None:
    take_and_verify(database, clock)
    assert due(database, clock) == 0
    clock.move(15)
    assert due(database, clock) == 1
    with database.write() as session:
        (row,) = commitments.due(session, clock.now())
        assert commitments.begin_report(row, clock.now(), MINUTE)
        assert not commitments.begin_report(row, clock.now(), MINUTE)
        assert not row.held
    assert due(database, clock) == 0


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_jumps_delays_no_report(
    database: Database, clock: ManualClock, jump: float
) -> None:
    take_and_verify(database, clock)
    clock.move(jump)
    assert due(database, clock) == 1
    with database.write() as session:
        (row,) = commitments.due(session, clock.now())
        assert commitments.begin_report(row, clock.now(), MINUTE)
    # and none is sent at every turn
    assert due(database, clock) == 0
    clock.move(60)
    assert due(database, clock) == 1


def test_the_result_names_what_is_kept_and_what_is_not(
    database: Database, clock: ManualClock
) -> None:
    take_and_verify(database, clock)
    with database.read() as session:
        row = commitments.find(session, "XR", "1.2.9")
        assert row is not None
        result = commitments.result_of(row)
    assert result.committed == [ONE]
    assert result.failed == [(OTHER, FailureReason.NO_SUCH_INSTANCE)]
    assert result.called_ae == "AINODE"


def test_a_transaction_belongs_to_one_peer_and_one_request(
    database: Database, clock: ManualClock
) -> None:
    with database.write() as session:
        assert commitments.take(session, request(ONE), clock.now(), HELD)
        assert commitments.take(session, request(ONE), clock.now(), HELD)
        assert not commitments.take(session, request(OTHER), clock.now(), HELD)
        assert commitments.take(session, request(OTHER, peer="CT"), clock.now(), HELD)
        assert len(commitments.requested(session)) == 2
