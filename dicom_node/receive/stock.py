"""The receiver on pynetdicom's own association: for versions of it that ours was not tested with.

Slower, and each data set is in memory while it is received; the same checks, files and answers.
"""

from __future__ import annotations

import contextlib
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid

from dicom_node.errors import StoreError
from dicom_node.receive.contexts import contexts_for
from dicom_node.receive.desk import KEPT, Desk, caller_of
from dicom_node.receive.policy import Caller
from dicom_node.receive.storing import SUCCESS, StoreRequest


class StockHandlers:
    """Handlers of pynetdicom's events for one server."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._inside: dict[int, Caller] = {}
        for number, uid in enumerate(desk.settings.extra_sop_classes):
            register_uid(uid, f"ExtraStorageClass{number}", StorageServiceClass)

    def bound(self) -> list[Any]:
        """Return what a server binds."""
        return [
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._commit),
            (evt.EVT_N_EVENT_REPORT, self._told),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]

    def _requested(self, event: evt.Event) -> None:
        association: Any = event.assoc
        caller = caller_of(association)
        rejection = self._desk.enter(caller)
        if rejection is not None:
            association.is_rejected = True
            association.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            association.kill()
            return
        self._inside[id(association)] = caller
        association.acceptor.ae_title = caller.called_ae
        association.acceptor.supported_contexts = contexts_for(
            association.requestor.primitive.presentation_context_definition_list,
            self._desk.settings.extra_sop_classes,
        )

    def _store(self, event: evt.Event) -> int | Dataset:
        request: Any = event.request
        caller = self._inside[id(event.assoc)]
        sop_uid = str(request.AffectedSOPInstanceUID or "")
        receipt = self._desk.receive(
            caller,
            StoreRequest(
                str(request.AffectedSOPClassUID or ""),
                sop_uid,
                str(event.context.abstract_syntax),
                str(event.context.transfer_syntax),
            ),
        )
        if request.DataSet is not None:
            receipt.write(request.DataSet.getbuffer())
        answer = receipt.finish()
        self._desk.answered(caller, sop_uid, answer)
        if answer.status == SUCCESS:
            return SUCCESS
        told = Dataset()
        told.Status = answer.status
        told.ErrorComment = answer.reason[:64].replace("\\", "/")
        return told

    def _commit(self, event: evt.Event) -> tuple[int, None]:
        """Take a storage commitment request; its report always takes another association."""
        caller = self._inside[id(event.assoc)]
        status, transaction_uid = self._desk.commit(caller, event)
        if transaction_uid is not None and self._desk.commitments is not None:
            # its hold runs out by itself, should this fail
            with contextlib.suppress(StoreError):
                self._desk.commitments.let_go(caller.calling_ae, transaction_uid)
        return status, None

    def _told(self, event: evt.Event) -> tuple[int, None]:
        """Take a report on a storage commitment request of ours."""
        return self._desk.told(self._inside[id(event.assoc)], event), None

    def _released(self, event: evt.Event) -> None:
        self._leave(event.assoc)

    def _aborted(self, event: evt.Event) -> None:
        self._leave(event.assoc, "the sender or the network broke off")

    def _closed(self, event: evt.Event) -> None:
        if not event.assoc.is_released:
            self._leave(event.assoc, "the connection was closed without release")

    def _leave(self, association: Any, broken: str = "") -> None:
        caller = self._inside.pop(id(association), None)
        if caller is None:
            return
        if broken:
            self._desk.broken_off(caller, f"{broken}; {KEPT}")
        self._desk.leave(caller)
