"""What every association that we request needs of pynetdicom, whichever stage requests it."""

from __future__ import annotations

from queue import Empty, Queue
from typing import Any

from pynetdicom.association import Association


class _Answers(Queue[Any]):
    """Incoming messages that only one who waits for an answer may take."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block:
            raise Empty
        return super().get(block, timeout)


def keep_answers(association: Association) -> None:
    """Keep an association's own thread from taking the answers to our requests.

    That thread of pynetdicom looks for requests of the peer, and pauses while `send_c_store` and
    the like wait for their answer. The pause has a gap: it counts as paused just before it goes
    on, and on a busy machine takes the answer, which is then waited for until the time-out. As a
    requestor we serve no requests, so it finds nothing.
    """
    association.dimse.msg_queue = _Answers()
