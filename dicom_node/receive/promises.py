"""The storage commitment requests of one association, whose reports it may still carry."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import structlog
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from dicom_node.errors import StoreError
from dicom_node.model.commitment import WELL_KNOWN_INSTANCE, CommitmentResult, Commitments
from dicom_node.receive.commitment import (
    SUCCESS,
    event_information,
    event_type,
)
from dicom_node.receive.contexts import COMMITMENT

_log = structlog.get_logger()

LOOK_EVERY: Final = 0.2
"""Seconds between two looks for results while an association waits for them."""


class Promises:
    """Reports results on the association of their requests, one at a time.

    What it could not report when the association ends goes back, to be reported by another.
    """

    def __init__(self, commitments: Commitments, calling_ae: str) -> None:
        self._commitments = commitments
        self._calling_ae = calling_ae
        self._waiting: list[str] = []
        self._told: CommitmentResult | None = None
        self._message_id = 0

    @property
    def waiting(self) -> bool:
        """A result may come that this association can carry."""
        return bool(self._waiting) and self._told is None

    def add(self, transaction_uid: str) -> None:
        """A request was taken on this association."""
        if transaction_uid not in self._waiting:
            self._waiting.append(transaction_uid)

    def report(self, transfer_syntax: str, send: Callable[[N_EVENT_REPORT], None]) -> None:
        """Send the next report whose result is there, if any."""
        if self._told is not None:
            return
        for transaction_uid in self._waiting:
            result = self._claim(transaction_uid)
            if result is not None:
                self._waiting.remove(transaction_uid)
                self._told = result
                send(self._message(result, UID(transfer_syntax)))
                return

    def answered(self, answer: Any) -> None:
        """The peer has answered the report: what it did not take is reported again, elsewhere."""
        told, self._told = self._told, None
        if told is None or answer.MessageIDBeingRespondedTo != self._message_id:
            return
        if answer.Status == SUCCESS:
            self._try(lambda: self._commitments.reported(told))
        else:
            self._let_go(told.transaction_uid)

    def end(self) -> None:
        """The association ends."""
        told, self._told = self._told, None
        for transaction_uid in (*self._waiting, *([told.transaction_uid] if told else [])):
            self._let_go(transaction_uid)
        self._waiting = []

    def _claim(self, transaction_uid: str) -> CommitmentResult | None:
        try:
            return self._commitments.claim(self._calling_ae, transaction_uid)
        except StoreError as error:
            _log.warning("commitment_not_read", why=error.why)
            return None

    def _let_go(self, transaction_uid: str) -> None:
        self._try(lambda: self._commitments.let_go(self._calling_ae, transaction_uid))

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StoreError as error:
            # its hold runs out by itself, and the report is then sent (again)
            _log.warning("commitment_not_updated", why=error.why)

    def _message(self, result: CommitmentResult, syntax: UID) -> N_EVENT_REPORT:
        encoded = encode(
            event_information(result),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            syntax.is_deflated,
        )
        self._message_id = self._message_id % 65535 + 1
        message = N_EVENT_REPORT()
        message.MessageID = self._message_id
        message.AffectedSOPClassUID = UID(COMMITMENT)
        message.AffectedSOPInstanceUID = UID(WELL_KNOWN_INSTANCE)
        message.EventTypeID = event_type(result)
        message.EventInformation = BytesIO(encoded or b"")
        return message
