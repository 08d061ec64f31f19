"""From a C-STORE request to a file that survives power loss, or to a status that says why not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from dicom_node.errors import NodeError, RefusedInstanceError, SpoolError
from dicom_node.receive.filing import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    inspect,
)
from dicom_node.receive.policy import Caller
from dicom_node.receive.settings import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    ReceiverSettings,
)
from dicom_node.store.collected import Collected
from dicom_node.store.incoming import Incoming
from dicom_node.store.spool import Spool

_log = structlog.get_logger()

SUCCESS: Final = 0x0000
_FREE_SPACE_EVERY: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE request and its presentation context say about the data set that follows.

    Attributes:
        abstract_syntax: Of the presentation context.
    """

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A C-STORE status (PS3.4 Table B.2-1, PS3.7 annex C), with the reason when refused."""

    status: int
    reason: str = ""
    study_instance_uid: str = ""


class Receipt:
    """One instance on its way to the spool.

    `write` any number of times, then `finish`, or `abandon` when the sender breaks off. Nothing
    is raised: what goes wrong is in the answer, after the sender has sent all of it.
    """

    def __init__(
        self, caller: Caller, request: StoreRequest, spool: Spool, settings: ReceiverSettings
    ) -> None:
        self._request = request
        self._spool = spool
        self._settings = settings
        self._error: NodeError | None = None
        self._incoming: Incoming | Collected | None = None
        self._start = 0
        self._next_look = _FREE_SPACE_EVERY
        self._try(lambda: self._begin(caller))

    def write(self, data: bytes | memoryview) -> None:
        """Take bytes of the data set as they come."""
        incoming = self._incoming
        if incoming is None or self._error is not None:
            return
        try:
            incoming.write(data)
        except SpoolError as error:
            self._fail(error)
        if incoming.size > self._next_look:
            self._next_look += _FREE_SPACE_EVERY
            self._try(self._check_room)

    def finish(self, *, moved: bool = True) -> Answer:
        """The data set is there: check it and make it durable; returns what to answer.

        Args:
            moved: Move the file to the inbox, too; else `move` does it, after the answer is sent.
        """
        study_uid = self._try(self._keep)
        if moved:
            self.move()
        error = self._error
        if error is None:
            return Answer(SUCCESS, study_instance_uid=study_uid)
        status = error.status if isinstance(error, RefusedInstanceError) else OUT_OF_RESOURCES
        return Answer(status, f"{error.what}: {error.why} ({error.fix})")

    def move(self) -> None:
        """Move what was kept to the inbox; harmless when repeated, or when nothing was."""
        if self._incoming is not None:
            self._incoming.move()

    def abandon(self) -> None:
        """Leave nothing of it behind; harmless after `finish`."""
        if self._incoming is not None:
            self._incoming.discard()

    def _try(self, step: Callable[[], str]) -> str:
        if self._error is not None:
            return ""
        try:
            return step()
        except (RefusedInstanceError, SpoolError) as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the sender must get a status, whatever happens
            _log.error(
                "store_failed",
                error=type(error).__name__,
                sop_instance_uid=self._request.sop_instance_uid,
            )
            self._fail(
                RefusedInstanceError(
                    CANNOT_UNDERSTAND, "instance", type(error).__name__, "see the receiver's log"
                )
            )
        return ""

    def _fail(self, error: NodeError) -> None:
        self._error = error
        self.abandon()

    def _begin(self, caller: Caller) -> str:
        request = self._request
        if request.sop_class_uid != request.abstract_syntax:
            raise RefusedInstanceError(
                SOP_CLASS_NOT_SUPPORTED,
                "SOP class",
                "it is not the one that was negotiated for this presentation context",
                "mend the sender (PS3.7 section 9.1.1.1.3)",
            )
        self._check_room()
        head = file_head(caller, request)
        self._start = len(head)
        self._incoming = self._spool.incoming(head)
        return ""

    def _check_room(self) -> str:
        settings = self._settings
        size = self._incoming.size if self._incoming else 0
        if settings.max_dataset and size > settings.max_dataset + self._start:
            raise SpoolError(
                "data set", "it is longer than this node takes", "raise `receive.max_dataset_mb`"
            )
        if self._spool.free_bytes() < settings.min_free_bytes:
            raise SpoolError(
                "disk", "less space is free than `node.min_free_mb`", "free space on the spool"
            )
        return ""

    def _keep(self) -> str:
        incoming = self._incoming
        if incoming is None:
            raise SpoolError("spool", "no file was begun", "see the receiver's log")
        incoming.hasten()
        self._check_room()
        request = self._request
        with incoming.contents() as data:
            filed = inspect(
                data,
                start=self._start,
                transfer_syntax=request.transfer_syntax,
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
            )
        incoming.keep()
        return filed.study_instance_uid


def file_head(caller: Caller, request: StoreRequest) -> bytes:
    """Make preamble and File Meta Information (PS3.10 section 7.1) for a received data set."""
    texts = (
        (0x0002, b"UI", request.sop_class_uid),
        (0x0003, b"UI", request.sop_instance_uid),
        (0x0010, b"UI", request.transfer_syntax),
        (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        (0x0013, b"SH", IMPLEMENTATION_VERSION),
        (0x0016, b"AE", caller.calling_ae),
        (0x0017, b"AE", caller.calling_ae),
        (0x0018, b"AE", caller.called_ae),
    )
    body = _element(0x0001, b"OB", b"\x00\x01") + b"".join(
        _element(element, vr, text.encode("ascii", "replace"))
        for element, vr, text in texts
        if text
    )
    return b"\0" * 128 + b"DICM" + _element(0, b"UL", struct.pack("<I", len(body))) + body


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sxxI", 2, element, vr, len(value)) + value
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value
