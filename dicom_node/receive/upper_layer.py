"""pynetdicom's upper layer state machine, stepped by the association's own thread."""

from __future__ import annotations

import queue
from typing import Any, Final

from pynetdicom.dul import DULServiceProvider

from dicom_node.receive.wire import ProtocolError, with_readable_titles

IDLE: Final = "Sta1"
"""The state without a connection (PS3.8 Table 9-1)."""


class SteppedDul(DULServiceProvider):
    """The upper layer's state machine, stepped by the association's thread."""

    def send_pdu(self, primitive: Any) -> None:
        """Send a primitive now."""
        super().send_pdu(primitive)
        self.step()

    def step(self) -> None:
        """Let the state machine act on every event and primitive that there is."""
        while True:
            if self.event_queue.empty():
                self._process_recv_primitive()
            try:
                event = self.event_queue.get(block=False)
            except queue.Empty:
                return
            self.state_machine.do_action(event)
            if self.state == IDLE:
                return

    @property
    def state(self) -> str:
        return str(self.state_machine.current_state)

    def receive(self, pdu: bytes) -> None:
        """Take a PDU that is not P-DATA-TF.

        Raises:
            ProtocolError: It cannot be decoded.
        """
        decoded: Any
        try:
            decoded, event = self._decode_pdu(bytearray(with_readable_titles(pdu)))
            primitive = decoded.to_primitive()
        except Exception as error:  # noqa: BLE001 - hostile bytes raise anything; it is aborted
            raise ProtocolError(f"its PDU cannot be decoded ({type(error).__name__})") from None
        # the state machine asks for it when it is too late to abort, and it takes milliseconds
        decoded.to_primitive = lambda: primitive
        self._recv_pdu.put(decoded)
        self.event_queue.put(event)
        self.step()
