"""The audit trail's chain: whole by itself, and every attack on it is named."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import delete, insert, select, text, update

from dicom_node.model.states import StudyState
from dicom_node.store import audit, chain, chain_check
from dicom_node.store.chain import GENESIS, Link
from dicom_node.store.chain_check import Deviation, Verdict
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent, Study
from dicom_node.store.watch_tables import AuditSeal
from tests.factories import ManualClock

CLOCK = ManualClock()


def record(database: Database, number: int, **told: object) -> None:
    with database.write() as session:
        for index in range(number):
            at = CLOCK.now() + timedelta(seconds=index)
            audit.record(session, at, "study_settled", study_uid=f"1.2.{index}", number=index)


def seal(database: Database) -> Link:
    with database.write() as session:
        while links := chain.next_links(session, limit=3):
            chain.put(session, links)
        return chain.head(session)


def verify(database: Database, noted: Link | None = None) -> Verdict:
    with database.read() as session:
        return chain_check.verify(session, noted)


def named(verdict: Verdict) -> list[tuple[Deviation, int]]:
    return [(item.deviation, item.position) for item in verdict.broken]


@pytest.fixture
def ten(database: Database) -> Link:
    """Ten sealed events; returns the head."""
    record(database, 10)
    return seal(database)


def test_a_trail_that_nobody_touched_is_whole(database: Database, ten: Link) -> None:
    verdict = verify(database, ten)
    assert verdict.whole
    assert (verdict.events, verdict.last, verdict.digest) == (10, 10, ten.digest)
    assert ten.digest != GENESIS


def test_an_empty_trail_is_whole(database: Database) -> None:
    assert verify(database).whole
    assert seal(database) == Link(0, GENESIS)


def test_events_that_wait_for_their_seal_are_counted_and_are_no_deviation(
    database: Database, ten: Link
) -> None:
    record(database, 2)
    verdict = verify(database, ten)
    assert (verdict.whole, verdict.unsealed) == (True, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "study_discarded"},
        {"data": {"number": 99}},
        {"study_uid": "1.2.99"},
        {"peer": "OTHER"},
        {"job_id": 7},
        {"at": CLOCK.now() - timedelta(days=1)},
    ],
)
def test_a_changed_event_is_named(database: Database, ten: Link, change: dict[str, object]) -> None:
    with database.write() as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 4).values(**change))
    verdict = verify(database, ten)
    assert named(verdict) == [(Deviation.CHANGED, 4)]
    assert verdict.broken[0].event_id == 4


def test_a_deleted_event_is_named(database: Database, ten: Link) -> None:
    with database.write() as session:
        session.execute(delete(AuditEvent).where(AuditEvent.id == 4))
    assert named(verify(database, ten)) == [(Deviation.MISSING, 4)]


def test_an_event_deleted_with_its_seal_leaves_a_gap(database: Database, ten: Link) -> None:
    with database.write() as session:
        session.execute(delete(AuditEvent).where(AuditEvent.id.in_((4, 5))))
        session.execute(delete(AuditSeal).where(AuditSeal.position.in_((4, 5))))
    verdict = verify(database, ten)
    assert named(verdict) == [(Deviation.GAP, 4)]
    assert "4 to 5" in verdict.broken[0].text


def test_a_deleted_tail_is_seen_by_the_head_that_was_noted(database: Database, ten: Link) -> None:
    with database.write() as session:
        session.execute(delete(AuditEvent).where(AuditEvent.id > 7))
        session.execute(delete(AuditSeal).where(AuditSeal.position > 7))
    assert verify(database).whole, "without the note nobody could know"
    assert named(verify(database, ten)) == [(Deviation.TAIL, 8)]


def test_a_deleted_beginning_is_named(database: Database, ten: Link) -> None:
    with database.write() as session:
        session.execute(delete(AuditEvent).where(AuditEvent.id < 4))
        session.execute(delete(AuditSeal).where(AuditSeal.position < 4))
    assert (Deviation.BEGINNING, 4) in named(verify(database, ten))


def test_two_events_that_changed_places_are_named(database: Database, ten: Link) -> None:
    with database.write() as session:
        for position, event_id in ((3, 6), (6, 3)):
            session.execute(
                update(AuditSeal).where(AuditSeal.position == position).values(event_id=event_id)
            )
    assert named(verify(database, ten)) == [(Deviation.CHANGED, 3), (Deviation.CHANGED, 6)]


def test_an_event_put_in_with_a_seal_of_its_own_is_named(database: Database, ten: Link) -> None:
    with database.write() as session:
        session.execute(
            insert(AuditEvent).values(id=50, at=CLOCK.now(), kind="study_settled", data={})
        )
        session.execute(update(AuditSeal).where(AuditSeal.position == 5).values(event_id=50))
    verdict = verify(database, ten)
    assert named(verdict) == [(Deviation.CHANGED, 5)]
    assert verdict.unsealed == 1, "the one that it took the place of"


def test_a_chain_that_was_computed_anew_is_not_the_one_that_was_noted(
    database: Database, ten: Link
) -> None:
    with database.write() as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 4).values(kind="nothing"))
        session.execute(delete(AuditSeal))
    again = seal(database)
    assert again.position == ten.position
    assert verify(database).whole
    assert named(verify(database, ten)) == [(Deviation.ANOTHER_CHAIN, 10)]


def test_an_event_written_afterwards_with_an_old_time_is_told(
    database: Database, ten: Link
) -> None:
    with database.write() as session:
        audit.record(session, CLOCK.now() - timedelta(days=2), "study_settled")
    seal(database)
    verdict = verify(database, ten)
    assert (verdict.whole, verdict.late) == (True, [11])


def test_an_event_that_became_visible_after_younger_ones_gets_its_seal(
    database: Database, ten: Link
) -> None:
    """As on PostgreSQL, where a number is given before the transaction ends."""
    record(database, 1)
    with database.write() as session:
        session.execute(text("UPDATE audit_events SET id = 20 WHERE id = 11"))
    seal(database)
    with database.write() as session:
        session.execute(
            insert(AuditEvent).values(id=15, at=CLOCK.now(), kind="study_settled", data={})
        )
    seal(database)
    with database.read() as session:
        order = session.scalars(select(AuditSeal.event_id).order_by(AuditSeal.position)).all()
    assert list(order)[-2:] == [20, 15]
    assert verify(database, ten).whole


def known_study(database: Database, uid: str) -> None:
    with database.write() as session:
        session.add(
            Study(
                study_instance_uid=uid,
                state=StudyState.RECEIVING,
                first_instance_at=CLOCK.now(),
                last_instance_at=CLOCK.now(),
            )
        )


def forget(database: Database, up_to: int | None = None) -> int:
    with database.write() as session:
        later = CLOCK.now() + timedelta(days=1)
        return chain.forget(session, later, later, up_to=up_to)


def test_what_retention_forgets_is_no_deviation_and_stays_so_for_ever(
    database: Database, ten: Link
) -> None:
    known_study(database, "1.2.3")
    assert forget(database) == 9
    assert verify(database, ten).whole, "also before what it did is sealed"
    head = seal(database)
    verdict = verify(database, head)
    assert verdict.whole
    assert (verdict.forgotten, verdict.events) == (9, 2)
    with database.read() as session:
        first = session.scalar(select(AuditSeal.position).order_by(AuditSeal.position).limit(1))
    assert first == 3, "the seals before the first event that is left are gone, but for the last"
    # again, the event that told of the first time being old by now
    record(database, 3)
    head = seal(database)
    with database.write() as session:
        later = CLOCK.now() + timedelta(days=9)
        chain.forget(session, later, later)
    head = seal(database)
    verdict = verify(database, head)
    assert verdict.whole, verdict.broken
    assert verdict.forgotten == head.position - 2


def test_only_the_newest_event_of_what_was_forgotten_is_needed(
    database: Database, ten: Link
) -> None:
    """One that is known from the beginning keeps all seals: each event tells of all positions."""
    known_study(database, "1.2.0")
    for _ in range(4):
        record(database, 3)
        seal(database)
        with database.write() as session:
            chain.forget(session, CLOCK.now() + timedelta(hours=1), CLOCK.now() + timedelta(days=9))
    with database.write() as session:
        kept = select(AuditEvent).where(AuditEvent.kind == chain.FORGOTTEN)
        *older, newest = session.scalars(kept.order_by(AuditEvent.id))
        assert len(older) == 3
        ranges = [[2, 10], [12, 13], [16, 17], [20, 21], [24, 25]]
        assert (newest.data["positions"], newest.data["anchor"]) == (ranges, None)
        for event in older:
            event.data = {}
    record(database, 3)
    seal(database)
    with database.write() as session:
        assert chain.forget(session, CLOCK.now() + timedelta(hours=1), CLOCK.now()) == 2
    head = seal(database)
    places = {}
    with database.read() as session:
        for row in session.scalars(select(AuditSeal)):
            places[row.event_id] = row.position
    assert named(verify(database, head)) == [
        (Deviation.CHANGED, places[event.id]) for event in older
    ]


def test_a_beginning_without_its_seal_stays_the_one_that_is_told(
    database: Database, ten: Link
) -> None:
    forget(database, up_to=3)
    seal(database)
    with database.write() as session:
        session.execute(delete(AuditSeal).where(AuditSeal.position.in_((3, 5))))
        session.execute(delete(AuditEvent).where(AuditEvent.id == 5))
    for up_to in (4, 6):
        forget(database, up_to=up_to)
        seal(database)
    with database.read() as session:
        newest = session.scalars(
            select(AuditEvent.data).where(AuditEvent.kind == chain.FORGOTTEN)
        ).all()[-1]
    assert (newest["anchor"]["position"], newest["positions"]) == (4, [[6, 6]])


@pytest.mark.parametrize(
    ("ranges", "whole"),
    [
        ([], []),
        ([[4, 6], [1, 2]], [(1, 2), (4, 6)]),
        ([[1, 2], [3, 3]], [(1, 3)]),
        ([[1, 9], [2, 3], [9, 10]], [(1, 10)]),
    ],
)
def test_ranges_are_merged(ranges: list[list[int]], whole: list[tuple[int, int]]) -> None:
    assert chain.merged(ranges) == whole


def test_all_may_be_forgotten(database: Database, ten: Link) -> None:
    assert forget(database) == 10
    head = seal(database)
    verdict = verify(database, head)
    assert (verdict.whole, verdict.events, head.position) == (True, 1, 11)


def test_a_deletion_beside_those_of_retention_is_named(database: Database, ten: Link) -> None:
    known_study(database, "1.2.3")
    known_study(database, "1.2.6")
    forget(database)
    head = seal(database)
    with database.write() as session:
        session.execute(delete(AuditEvent).where(AuditEvent.study_uid == "1.2.6"))
    assert named(verify(database, head)) == [(Deviation.MISSING, 7)]
    forget(database)
    assert named(verify(database, seal(database))) == [(Deviation.MISSING, 7)], "nor is it hidden"


def test_nothing_goes_that_is_not_sealed_or_not_sent(database: Database, ten: Link) -> None:
    record(database, 2)
    assert forget(database, up_to=4) == 4
    with database.read() as session:
        left = session.scalars(select(AuditEvent.id).order_by(AuditEvent.id)).all()
    assert list(left)[:8] == [5, 6, 7, 8, 9, 10, 11, 12]
