"""What the receiver refused is in the audit trail."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from dicom_node.errors import SpoolError
from dicom_node.model.events import ReceiveEvent, ReceiveKind
from dicom_node.serve.events import AuditSink
from dicom_node.store.database import Database
from dicom_node.store.tables import AuditEvent
from tests.factories import ManualClock

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
    with pytest.raises(SpoolError, match="OperationalError") as told:
        AuditSink(database)(REFUSED)
    assert told.value.fix
