"""DIMSE messages from P-DATA: the data sets of C-STORE go to the spool as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.receive.command import (
    C_STORE_RQ,
    Command,
    CommandError,
    command_pdus,
    read_command,
    store_response,
)
from dicom_node.receive.desk import Desk
from dicom_node.receive.policy import Caller
from dicom_node.receive.storing import Receipt, StoreRequest
from dicom_node.receive.wire import ProtocolError

_LONGEST_COMMAND: Final = 64 * 1024
_LONGEST_OTHER: Final = 4 * 1024 * 1024
_COMMAND: Final = 1
_LAST: Final = 2


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context as it was negotiated."""

    abstract_syntax: str
    transfer_syntax: str
    is_storage: bool


@dataclass(frozen=True, slots=True)
class Line:
    """How messages reach the other side.

    Attributes:
        max_length: The longest PDU that it takes; 0: any.
        send: Sends encoded PDUs.
        other: Takes one PDV (context id, message control header and data) of a message that is
            not a C-STORE; called for each of its PDVs.
    """

    max_length: int
    send: Callable[[bytes], None]
    other: Callable[[int, bytes], None]


class Messages:
    """Puts the messages of one association together, fragment by fragment (PS3.8 annex E)."""

    def __init__(
        self, desk: Desk, caller: Caller, contexts: Mapping[int, AcceptedContext], line: Line
    ) -> None:
        self._desk = desk
        self._caller = caller
        self._contexts = contexts
        self._line = line
        self._context_id = 0
        self._encoded = bytearray()
        self._request: Command | None = None
        self._receipt: Receipt | None = None
        self._other_bytes = 0
        self.answered = 0

    @property
    def in_hand(self) -> bool:
        """A message has begun and was not answered yet."""
        return self._context_id != 0

    def take(self, pdu: memoryview) -> None:
        """Take a P-DATA-TF PDU, its head included.

        Raises:
            ProtocolError: It breaks the rules of PS3.8 annex E or PS3.7 section 6.3.
        """
        position, end = 6, len(pdu)
        while position < end:
            if position + 6 > end:
                raise ProtocolError("it sent a PDV without its length")
            length = int.from_bytes(pdu[position : position + 4], "big")
            stop = position + 4 + length
            if length < 2 or stop > end:
                raise ProtocolError("it sent a PDV whose length does not fit its PDU")
            self._fragment(pdu[position + 4], pdu[position + 5], pdu[position + 6 : stop])
            position = stop

    def abandon(self) -> None:
        """Leave nothing behind of what has not come to its end."""
        if self._receipt is not None:
            self._receipt.abandon()
        self._clear()

    def _fragment(self, context_id: int, control: int, data: memoryview) -> None:
        if context_id not in self._contexts:
            raise ProtocolError("it uses a presentation context that was not accepted")
        if self._context_id and context_id != self._context_id:
            raise ProtocolError("it changed the presentation context within a message")
        self._context_id = context_id
        in_data_set = self._request is not None
        if bool(control & _COMMAND) == in_data_set:
            raise ProtocolError("its command and data set fragments are out of order")
        if not self._contexts[context_id].is_storage:
            self._other(context_id, control, data)
        elif in_data_set:
            self._data_set(data, last=bool(control & _LAST))
        else:
            self._command(data, last=bool(control & _LAST))

    def _command(self, data: memoryview, *, last: bool) -> None:
        self._encoded += data
        if len(self._encoded) > _LONGEST_COMMAND:
            raise ProtocolError("it sent a command set without end")
        if not last:
            return
        request = self._read()
        if request.field != C_STORE_RQ:
            raise ProtocolError("it asked a storage SOP class for something else than C-STORE")
        context = self._contexts[self._context_id]
        self._request = request
        self._receipt = self._desk.receive(
            self._caller,
            StoreRequest(
                request.sop_class_uid,
                request.sop_instance_uid,
                context.abstract_syntax,
                context.transfer_syntax,
            ),
        )
        if not request.has_data_set:
            self._answer(request, self._receipt)

    def _data_set(self, data: memoryview, *, last: bool) -> None:
        if self._request is None or self._receipt is None:
            raise ProtocolError("a data set came without a command")
        self._receipt.write(data)
        if last:
            self._answer(self._request, self._receipt)

    def _answer(self, request: Command, receipt: Receipt) -> None:
        answer = receipt.finish(moved=False)
        try:
            self._desk.answered(self._caller, request.sop_instance_uid, answer)
            response = store_response(request, answer.status, answer.reason)
            self._line.send(command_pdus(response, self._context_id, self._line.max_length))
        finally:
            receipt.move()
        self.answered += 1
        self._clear()

    def _other(self, context_id: int, control: int, data: memoryview) -> None:
        """Pass a fragment of another service's message on; see where the message ends."""
        self._other_bytes += len(data)
        if self._other_bytes > _LONGEST_OTHER:
            raise ProtocolError("it sent a message without end")
        last = bool(control & _LAST)
        ends = last
        if control & _COMMAND:
            self._encoded += data
            ends = False
            if last:
                request = self._read()
                ends = not request.has_data_set
                self._request = request
        piece = bytes((control,)) + bytes(data)
        if ends:
            self._clear()
        self._line.other(context_id, piece)

    def _read(self) -> Command:
        try:
            return read_command(self._encoded)
        except CommandError as error:
            raise ProtocolError(str(error)) from None

    def _clear(self) -> None:
        self._context_id = 0
        self._encoded = bytearray()
        self._request = None
        self._receipt = None
        self._other_bytes = 0
