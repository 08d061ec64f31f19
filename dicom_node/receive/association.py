"""One association, one thread, woken by data: pynetdicom's upper layer without its clock.

pynetdicom runs two threads for each association, which look for work every millisecond, and
makes four objects of each P-DATA-TF PDU. Here its state machine, its negotiation and its message
services are used as they are, but stepped by the association's own thread, which waits for the
socket; and the data sets of C-STORE go from the socket's buffer to the file.

Contract: pynetdicom's `Association`, `DULServiceProvider`, `AssociationServer` and
`RequestHandler` are subclassed; nothing of it is replaced. Their inner parts that are relied on
may change, so `receive.server.TESTED_VERSIONS` names the versions that this was tested with;
with any other, the receiver runs pynetdicom's own association (`receive.stock`).
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Final

import structlog
from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, P_DATA

from dicom_node.logs import error_facts
from dicom_node.receive.commitment import PROCESSING_FAILURE
from dicom_node.receive.contexts import COMMITMENT, NOT_STORAGE, contexts_for
from dicom_node.receive.desk import KEPT, Desk, caller_of
from dicom_node.receive.messages import AcceptedContext, Line, Messages
from dicom_node.receive.policy import Caller
from dicom_node.receive.promises import LOOK_EVERY, Promises
from dicom_node.receive.upper_layer import IDLE, SteppedDul
from dicom_node.receive.wire import P_DATA_TF, ProtocolError, Wire

_log = structlog.get_logger()

_AWAITING_REQUEST: Final = "Sta2"
_ESTABLISHED: Final = "Sta6"
_CLOSING: Final = "Sta13"
_CLOSED: Final = "Evt17"
_INVALID_PDU: Final = "Evt19"
_LOOK_UP_EVERY: Final = 1.0
_CLOSE_TIMEOUT: Final = 2.0


class StreamingAssociation(Association):
    """An association as acceptor that writes what it receives as it comes."""

    dul: SteppedDul

    def __init__(self, ae: Any, desk: Desk, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.dul = SteppedDul(self)
        self._desk = desk
        self._tls = tls
        self._certified = False
        self._caller: Caller | None = None
        self._messages: Messages | None = None
        self._promises: Promises | None = None
        self._broken = ""
        self._stop_by: float | None = None

    def stop(self, by: float) -> None:
        """End at the next moment between two messages, or at `by` (monotonic) at the latest."""
        self._stop_by = by

    def run_reactor(self) -> None:
        """Run the association from the connection to its end."""
        try:
            if self._tls is None or self._shake_hands(self._tls):
                self._converse()
        except (OSError, InvalidEventError) as error:
            self._broken = self._broken or f"the connection broke ({type(error).__name__})"
        except Exception as error:  # noqa: BLE001 - one association must not end the receiver
            _log.error("association_failed", **error_facts(error))
            self._broken = f"an error of the receiver ({type(error).__name__})"
        finally:
            self._end()

    def _shake_hands(self, context: ssl.SSLContext) -> bool:
        """Begin TLS, here and not where connections are accepted: it may take its time."""
        settings = self._desk.settings.tls
        wrapper = self.dul.socket
        plain = self._connection()
        plain.settimeout(settings.handshake_timeout if settings else None)
        secure = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        if wrapper is not None:
            wrapper.socket = secure
        try:
            secure.do_handshake()
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            self._desk.not_connected(str(self.requestor.address), f"no TLS: {reason}")
            return False
        self._certified = bool(secure.getpeercert(binary_form=True)) and (
            context.verify_mode is not ssl.CERT_NONE
        )
        return True

    def _converse(self) -> None:
        wire = Wire(self._connection())
        self.dul.step()
        deadline = time.monotonic() + self._desk.settings.acse_timeout
        state = self.dul.state
        while state != IDLE:
            now = time.monotonic()
            if self._must_stop(now):
                self._abort("the receiver stops")
            got = None
            if now < deadline:
                pause = LOOK_EVERY if self._promises and self._promises.waiting else _LOOK_UP_EVERY
                got = wire.fill(min(pause, deadline - now))
            elif state in (_CLOSING, _AWAITING_REQUEST):
                return
            else:
                self._abort("nothing came for the network time-out")
            if got == 0:
                self._broken = self._broken or "the connection was closed without release"
                self.dul.event_queue.put(_CLOSED)
                self.dul.step()
            elif got:
                self._consume(wire)
            if self._promises and self._promises.waiting:
                self._report()
            before, state = state, self.dul.state
            if state != before and state == _ESTABLISHED:
                wire.widen()
            if state == _CLOSING:
                deadline = deadline if before == _CLOSING else now + _CLOSE_TIMEOUT
            elif state == _ESTABLISHED and (got or before != _ESTABLISHED):
                deadline = time.monotonic() + self._desk.settings.network_timeout

    def _consume(self, wire: Wire) -> None:
        """Act on every whole PDU that has come."""
        try:
            while self.dul.state not in (IDLE, _CLOSING):
                found = wire.next_pdu()
                if found is None:
                    return
                kind, pdu = found
                with pdu:
                    if kind == P_DATA_TF and self._messages and self.dul.state == _ESTABLISHED:
                        self._messages.take(pdu)
                        continue
                    data = bytes(pdu)
                self.dul.receive(data)
                self._act()
        except ProtocolError as error:
            self._broken = str(error)
            self.dul.event_queue.put(_INVALID_PDU)
            self.dul.step()
            self._act()
        if self.dul.state == _CLOSING:
            wire.discard()

    def _act(self) -> None:
        """Answer what the upper layer reports to its user."""
        while (primitive := self.dul.receive_pdu(wait=False)) is not None:
            if isinstance(primitive, A_ASSOCIATE):
                self._requested(primitive)
            elif isinstance(primitive, A_RELEASE):
                self.is_released, self.is_established = True, False
                self.acse.send_release(is_response=True)
                evt.trigger(self, evt.EVT_RELEASED, {})
            elif isinstance(primitive, A_ABORT | A_P_ABORT):
                self._broken = self._broken or "the sender aborted"
                self.is_aborted, self.is_established = True, False
                evt.trigger(self, evt.EVT_ABORTED, {})

    def _requested(self, primitive: Any) -> None:
        self.requestor.primitive = primitive
        evt.trigger(self, evt.EVT_REQUESTED, {})
        caller = caller_of(self, certified=self._certified)
        rejection = self._desk.enter(caller)
        if rejection is not None:
            self.is_rejected = True
            self.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            evt.trigger(self, evt.EVT_REJECTED, {})
            return
        self._caller = caller
        self.acceptor.ae_title = caller.called_ae
        self.acceptor.supported_contexts = contexts_for(
            primitive.presentation_context_definition_list, self._desk.settings.extra_sop_classes
        )
        self.acse.negotiate_association()
        if not self.is_established:
            return
        contexts = {
            int(number): AcceptedContext(
                str(context.abstract_syntax),
                str(context.transfer_syntax[0]),
                is_storage=context.abstract_syntax not in NOT_STORAGE,
            )
            for number, context in self._accepted_cx.items()
        }
        line = Line(int(self.requestor.maximum_length or 0), self._send, self._other)
        self._messages = Messages(self._desk, caller, contexts, line)
        if self._desk.commitments is not None:
            self._promises = Promises(self._desk.commitments, caller.calling_ae)
            self.bind(evt.EVT_N_ACTION, self._commit)
            self.bind(evt.EVT_N_EVENT_REPORT, self._told)

    def _send(self, pdus: bytes) -> None:
        connection = self._connection()
        connection.settimeout(self._desk.settings.network_timeout)
        connection.sendall(pdus)

    def _other(self, context_id: int, piece: bytes) -> None:
        """Give a fragment to pynetdicom's message service; serve the message when it is whole."""
        primitive = P_DATA()
        value: list[Any] = [[context_id, piece]]
        primitive.presentation_data_value_list = value
        try:
            self.dimse.receive_primitive(primitive)
        except Exception as error:  # noqa: BLE001 - hostile bytes raise anything; it is aborted
            raise ProtocolError(f"its message cannot be read ({type(error).__name__})") from None
        number, message = self.dimse.get_msg(block=False)
        if message is None or number is None:
            return
        if isinstance(message, N_EVENT_REPORT) and message.MessageIDBeingRespondedTo is not None:
            if self._promises is not None:
                self._promises.answered(message)
            return
        self._serve_request(message, number)

    def _commit(self, event: evt.Event) -> tuple[int, None]:
        """Take a storage commitment request: a handler of EVT_N_ACTION."""
        if self._caller is None or self._promises is None:
            return PROCESSING_FAILURE, None
        status, transaction_uid = self._desk.commit(self._caller, event)
        if transaction_uid is not None:
            self._promises.add(transaction_uid)
        return status, None

    def _told(self, event: evt.Event) -> tuple[int, None]:
        """Take a report on a request of ours: a handler of EVT_N_EVENT_REPORT."""
        if self._caller is None:
            return PROCESSING_FAILURE, None
        return self._desk.told(self._caller, event), None

    def _report(self) -> None:
        """Tell what has become of a storage commitment request, between two messages."""
        if (
            self._promises is None
            or self.dul.state != _ESTABLISHED
            or (self._messages and self._messages.in_hand)
        ):
            return
        context = next(
            (one for one in self.accepted_contexts if one.abstract_syntax == COMMITMENT), None
        )
        if context is not None and context.context_id is not None:
            number = context.context_id
            self._promises.report(
                str(context.transfer_syntax[0]),
                lambda message: self.dimse.send_msg(message, number),
            )

    def _connection(self) -> socket.socket:
        wrapper = self.dul.socket
        if wrapper is None or wrapper.socket is None:
            raise ConnectionError("the connection is closed")
        return wrapper.socket

    def _must_stop(self, now: float) -> bool:
        if self._stop_by is None or self.dul.state in (_CLOSING, IDLE):
            return False
        return now >= self._stop_by or not (self._messages and self._messages.in_hand)

    def _abort(self, reason: str) -> None:
        self._broken = self._broken or reason
        self.is_aborted, self.is_established = True, False
        self.acse.send_abort(0x00)

    def _end(self) -> None:
        """Leave nothing behind: no unfinished file, no socket, no place taken."""
        if self._messages is not None:
            self._messages.abandon()
        if self._promises is not None:
            self._promises.end()
        if self.dul.socket is not None:
            self.dul.socket.close()
        if self._caller is not None:
            if not self.is_released:
                self._desk.broken_off(self._caller, f"{self._broken}; {KEPT}")
            self._desk.leave(self._caller)
        self._kill = True
