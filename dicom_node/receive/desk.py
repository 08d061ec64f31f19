"""What an association asks of the node: may I come in, take this, remember that."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import structlog

from dicom_node.clock import Clock
from dicom_node.errors import SpoolError, StoreError
from dicom_node.model.commitment import Commitments
from dicom_node.model.events import EventSink, ReceiveEvent, ReceiveKind
from dicom_node.receive.commitment import (
    INVALID_ARGUMENT,
    PROCESSING_FAILURE,
    RefusedActionError,
    read_request,
    read_told,
)
from dicom_node.receive.policy import Caller, Door, Rejection
from dicom_node.receive.settings import ReceiverSettings
from dicom_node.receive.storing import SUCCESS, Answer, Receipt, StoreRequest
from dicom_node.store.spool import Spool

_log = structlog.get_logger()

KEPT: Final = "what was acknowledged stays"


class Desk:
    """The receiver's side of every association, whichever code runs the upper layer.

    Each refusal is logged and goes to the audit trail before the sender is answered.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        spool: Spool,
        on_event: EventSink,
        clock: Clock,
        commitments: Commitments | None = None,
    ) -> None:
        self.settings = settings
        self.commitments = commitments
        self._door = Door(settings)
        self._spool = spool
        self._on_event = on_event
        self._clock = clock
        self._kept_any = False

    def change(self, settings: ReceiverSettings) -> None:
        """Let in, from now on, whom other settings let in; who is in stays in."""
        self._door.change(settings)

    @property
    def associations(self) -> int:
        """The number of associations that are in."""
        return self._door.inside

    def enter(self, caller: Caller) -> Rejection | None:
        """Let a caller in, to be followed by `leave`; or say why not."""
        rejection = self._door.enter(caller)
        if rejection is not None:
            self._tell(ReceiveKind.ASSOCIATION_REJECTED, caller, rejection.reason)
        return rejection

    def leave(self, caller: Caller) -> None:
        """Note that a caller who was let in has gone; after the last, what came is indexed."""
        self._door.leave(caller)
        if self._kept_any and not self.associations:
            self._kept_any = False
            self._spool.arrivals.ring()

    def receive(self, caller: Caller, request: StoreRequest) -> Receipt:
        """Begin to take an instance."""
        return Receipt(caller, request, self._spool, self.settings)

    def answered(self, caller: Caller, sop_instance_uid: str, answer: Answer) -> None:
        """Note the answer that an instance is about to get."""
        if answer.status == SUCCESS:
            self._kept_any = True
            return
        self._tell(
            ReceiveKind.INSTANCE_REFUSED,
            caller,
            answer.reason,
            status=answer.status,
            sop_instance_uid=sop_instance_uid,
        )

    def commit(self, caller: Caller, event: Any) -> tuple[int, str | None]:
        """Take the request of an N-ACTION event; its report comes later.

        Returns:
            The status of the N-ACTION, and the transaction UID when the request was taken.
        """
        try:
            if self.commitments is None:
                raise RefusedActionError(PROCESSING_FAILURE, "this receiver has no index")
            request = read_request(event, caller)
            if not self.commitments.take(request):
                raise RefusedActionError(
                    PROCESSING_FAILURE, "its transaction UID belongs to another request"
                )
        except StoreError as error:
            refused = RefusedActionError(PROCESSING_FAILURE, error.why)
        except RefusedActionError as error:
            refused = error
        else:
            return SUCCESS, request.transaction_uid
        self._tell(ReceiveKind.COMMITMENT_REFUSED, caller, refused.reason, status=refused.status)
        return refused.status, None

    def told(self, caller: Caller, event: Any) -> int:
        """Take a peer's report on a storage commitment request of ours.

        Returns:
            The status of the N-EVENT-REPORT's answer.
        """
        try:
            if self.commitments is None:
                raise RefusedActionError(PROCESSING_FAILURE, "this receiver has no outbox")
            if self.commitments.told(caller.calling_ae, read_told(event)):
                return SUCCESS
            reason = "it reports on a storage commitment request that we have not made to it"
            refused = RefusedActionError(INVALID_ARGUMENT, reason)
        except StoreError as error:
            refused = RefusedActionError(PROCESSING_FAILURE, error.why)
        except RefusedActionError as error:
            refused = error
        self._tell(
            ReceiveKind.COMMITMENT_REPORT_REFUSED, caller, refused.reason, status=refused.status
        )
        return refused.status

    def broken_off(self, caller: Caller, reason: str) -> None:
        """Note that an association ended without release."""
        self._tell(ReceiveKind.ASSOCIATION_ABORTED, caller, reason)

    def not_connected(self, address: str, reason: str) -> None:
        """Note that a connection came to nothing before it said who it was."""
        self._tell(ReceiveKind.CONNECTION_REFUSED, Caller("", "", address), reason)

    def _tell(
        self,
        kind: ReceiveKind,
        caller: Caller,
        reason: str,
        status: int | None = None,
        sop_instance_uid: str = "",
    ) -> None:
        event = ReceiveEvent(
            kind=kind,
            at=self._clock.now(),
            calling_ae=caller.calling_ae,
            called_ae=caller.called_ae,
            address=caller.address,
            reason=reason,
            status=status,
            sop_instance_uid=sop_instance_uid,
        )
        _log.warning(
            str(kind),
            calling_ae=event.calling_ae,
            called_ae=event.called_ae,
            address=event.address,
            reason=reason,
            status=None if status is None else f"0x{status:04X}",
            sop_instance_uid=sop_instance_uid,
        )
        # the sink has said why in its own log; the sender is answered all the same
        with contextlib.suppress(SpoolError):
            self._on_event(event)


def caller_of(association: Any, *, certified: bool = False) -> Caller:
    """Return who requested a pynetdicom association; a title of "?" is a blank one."""
    asked = association.requestor.primitive
    calling = str(asked.calling_ae_title).strip()
    return Caller(
        calling_ae="" if calling == "?" else calling,
        called_ae=str(asked.called_ae_title).strip(),
        address=str(association.requestor.address),
        certified=certified,
    )
