"""What the receiver refused is in the audit trail."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.errors import SpoolError
from dicom_node.model.events import ReceiveEvent, ReceiveKind
from dicom_node.serve.events import AuditSink, counting
from dicom_node.store import overview
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent
from tests.factories import ManualClock
from tests.peers.ports import wait_for

REFUSED = ReceiveEvent(
    kind=ReceiveKind.INSTANCE_REFUSED,
    at=ManualClock().now(),
    calling_ae="XRAY",
    called_ae="AINODE",
    address="10.0.0.21",
    reason="the disk is almost full (free space)",
    status=0xA700,
    study_instance_uid="1.2.3",
    sop_instance_uid="1.2.3.1.1",
)


def test_a_refusal_is_recorded_with_who_why_and_the_status_that_was_answered(
    database: Database,
) -> None:
    AuditSink(database)(REFUSED)
    with database.read() as session:
        (event,) = session.scalars(select(AuditEvent)).all()
    assert (event.kind, event.study_uid, event.peer) == ("instance_refused", "1.2.3", "XRAY")
    assert event.at == REFUSED.at
    assert event.data == {
        "called_ae": "AINODE",
        "address": "10.0.0.21",
        "reason": "the disk is almost full (free space)",
        "status": 0xA700,
        "sop_instance_uid": "1.2.3.1.1",
    }


def test_a_database_that_refuses_is_an_error_of_the_spool_s_kind(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE audit_events")
    with pytest.raises(SpoolError, match=r"OperationalError|ProgrammingError") as told:
        AuditSink(database)(REFUSED)
    assert told.value.fix


REJECTED = replace(
    REFUSED,
    kind=ReceiveKind.ASSOCIATION_REJECTED,
    calling_ae="EVIL",
    study_instance_uid="",
    sop_instance_uid="",
    status=None,
)


def rows(database: Database) -> list[tuple[str | None, int]]:
    with database.read() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    return [(event.peer, event.data.get("times", 1)) for event in events]


def test_a_caller_that_is_rejected_thousands_of_times_makes_two_rows_a_minute(
    database: Database,
) -> None:
    sink = AuditSink(database)
    for number in range(3000):
        sink(replace(REJECTED, at=REJECTED.at + timedelta(milliseconds=10 * number)))
    assert rows(database) == [("EVIL", 1)]
    sink.flush(REJECTED.at + timedelta(minutes=1))
    assert rows(database) == [("EVIL", 1), ("EVIL", 2999)]
    sink(replace(REJECTED, at=REJECTED.at + timedelta(minutes=2)))
    assert rows(database) == [("EVIL", 1), ("EVIL", 2999), ("EVIL", 1)]


def test_callers_are_counted_one_by_one_until_there_are_too_many(database: Database) -> None:
    sink = AuditSink(database)
    for _ in range(2):
        for number in range(500):
            sink(replace(REJECTED, calling_ae=f"EVIL{number}"))
    sink.flush(REJECTED.at, everything=True)
    told = rows(database)
    assert len(told) <= 122
    assert sum(times for _, times in told) == 1000
    assert (None, 879) in told


def test_refused_images_are_told_one_by_one(database: Database) -> None:
    sink = AuditSink(database)
    for _ in range(3):
        sink(REFUSED)
    assert rows(database) == [("XRAY", 1)] * 3


def test_what_was_counted_is_written_though_nothing_more_comes(database: Database) -> None:
    sink, clock = AuditSink(database), ManualClock()
    with counting(sink, clock, every=0.01):
        sink(REJECTED)
        sink(REJECTED)
        clock.move(61)
        wait_for("the count", lambda: len(rows(database)) == 2)
        sink(replace(REJECTED, at=clock.now()))
        sink(replace(REJECTED, at=clock.now()))
    assert rows(database) == [("EVIL", 1)] * 4, "at the end what is left is written, too"


def test_status_counts_what_one_row_stands_for(database: Database) -> None:
    sink = AuditSink(database)
    for _ in range(40):
        sink(REJECTED)
    sink.flush(REJECTED.at, everything=True)
    with database.read() as session:
        (line,) = overview.refusals(session, REJECTED.at - timedelta(hours=1))
    assert (line.calling_ae, line.times) == ("EVIL", 40)
