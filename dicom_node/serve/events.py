"""The receiver's events into the audit trail."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import SpoolError
from dicom_node.model.events import ReceiveEvent
from dicom_node.store import audit
from dicom_node.store.database import Database


class AuditSink:
    """Writes receive events to the database, before the sender is answered.

    Raises:
        SpoolError: The database refused; the receiver has logged the event already.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self, event: ReceiveEvent) -> None:
        try:
            with self._database.write() as session:
                audit.record(
                    session,
                    event.at,
                    str(event.kind),
                    study_uid=event.study_instance_uid or None,
                    peer=event.calling_ae or None,
                    called_ae=event.called_ae,
                    address=event.address,
                    reason=event.reason,
                    status=event.status,
                    sop_instance_uid=event.sop_instance_uid,
                )
        except SQLAlchemyError as error:
            raise SpoolError(
                "audit trail", type(error).__name__, "check the database and its disk"
            ) from error
