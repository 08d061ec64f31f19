"""The receiver: an acceptor for C-ECHO and C-STORE that acknowledges only what is durable."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node import __version__
from dicom_node.clock import Clock
from dicom_node.errors import NodeError, RefusedInstanceError, SpoolError
from dicom_node.model.events import EventSink, ReceiveEvent, ReceiveKind
from dicom_node.model.identifiers import derived_uid
from dicom_node.model.peers import Peer
from dicom_node.receive.contexts import offered_contexts
from dicom_node.receive.filing import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, inspect
from dicom_node.store.spool import Spool

_log = structlog.get_logger()

IMPLEMENTATION_CLASS_UID: Final = derived_uid("dicom-node", "implementation")
IMPLEMENTATION_VERSION: Final = f"DICOMNODE_{__version__}"[:16]


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """How the receiver listens and whom it lets in; times in seconds.

    Attributes:
        ae_titles: Titles that we answer to.
        port: 0 picks a free one, readable from `Receiver.port`.
        peers: Those that may send; ignored when `promiscuous`.
        min_free_bytes: Below this, images are refused with 0xA700.
    """

    ae_titles: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 0
    peers: Mapping[str, Peer] = field(default_factory=dict)
    promiscuous: bool = False
    max_associations: int = 64
    max_pdu: int = 128 * 1024
    network_timeout: float = 120
    acse_timeout: float = 30
    min_free_bytes: int = 0


class Receiver:
    """Listens on a port until it is stopped.

    C-STORE answers 0x0000 after the file is fsynced and renamed into the spool's inbox; any
    other status means that nothing was kept, and leaves an event.
    """

    def __init__(
        self, settings: ReceiverSettings, spool: Spool, on_event: EventSink, clock: Clock
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._on_event = on_event
        self._clock = clock
        self._server: ThreadedAssociationServer | None = None
        self._ae = self._application_entity()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._server is None:
            raise RuntimeError("the receiver is not started")
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen.

        Raises:
            NodeError: The port cannot be listened on.
        """
        left = self._spool.clean_up()
        if left:
            _log.warning("unfinished_files_removed", number=left)
        address = (self._settings.host, self._settings.port)
        try:
            self._server = self._ae.start_server(
                address,
                block=False,
                evt_handlers=[
                    (evt.EVT_C_ECHO, lambda _: 0x0000),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_REQUESTED, self._requested),
                    (evt.EVT_REJECTED, self._rejected),
                    (evt.EVT_ABORTED, self._aborted),
                    (evt.EVT_CONN_CLOSE, self._closed),
                ],
            )
        except OSError as error:
            raise NodeError(
                f"port {address[0]}:{address[1]}",
                error.strerror or "it cannot be listened on",
                "stop the other program on it, or choose another `node.port`",
            ) from error
        _log.info("receiver_listens", host=self._settings.host, port=self.port)

    def stop(self) -> None:
        """Stop listening; associations in progress are aborted, what was acknowledged stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        self._ae.shutdown()

    def _application_entity(self) -> AE:
        settings = self._settings
        ae = AE(settings.ae_titles[0])
        ae.supported_contexts = offered_contexts()
        ae.require_called_aet = True
        if not settings.promiscuous:
            # an empty list would let everybody in
            ae.require_calling_aet = [p.ae_title for p in settings.peers.values()] or ["\x00"]
        ae.maximum_associations = settings.max_associations
        ae.maximum_pdu_size = settings.max_pdu
        ae.network_timeout = settings.network_timeout
        ae.acse_timeout = settings.acse_timeout
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION
        return ae

    def _requested(self, event: evt.Event) -> None:
        # pynetdicom compares the called title with one title only: we may have several
        asked: Any = event.assoc.requestor.primitive
        called = asked.called_ae_title
        if called in self._settings.ae_titles:
            event.assoc.acceptor.ae_title = called

    def _store(self, event: evt.Event) -> int | Dataset:
        """Handle a C-STORE request; returns the status, with an Error Comment if refused."""
        request: Any = event.request
        sop_uid = str(request.AffectedSOPInstanceUID or "")
        try:
            self._keep(event, sop_uid)
        except RefusedInstanceError as error:
            return self._refuse(event, error.status, error, sop_uid)
        except SpoolError as error:
            return self._refuse(event, OUT_OF_RESOURCES, error, sop_uid)
        except Exception as error:  # noqa: BLE001 - the sender must get a status, whatever happens
            _log.error("store_failed", error=type(error).__name__, sop_instance_uid=sop_uid)
            wrapped = NodeError("instance", type(error).__name__, "see the receiver's log")
            return self._refuse(event, CANNOT_UNDERSTAND, wrapped, sop_uid)
        return 0x0000

    def _keep(self, event: evt.Event, sop_uid: str) -> None:
        if self._spool.free_bytes() < self._settings.min_free_bytes:
            raise SpoolError(
                "disk", "less space is free than `node.min_free_mb`", "free space on the spool"
            )
        request: Any = event.request
        body = request.DataSet.getbuffer()
        head = self._head(event, sop_uid)
        with body:
            stream = _Joined(head, body)
            inspect(
                stream,
                len(head) + len(body),
                transfer_syntax=UID(event.context.transfer_syntax),
                sop_class_uid=str(request.AffectedSOPClassUID or ""),
                sop_instance_uid=sop_uid,
            )
            incoming = self._spool.incoming()
            try:
                incoming.write(head)
                incoming.write(body)
                incoming.keep()
            finally:
                incoming.discard()

    def _head(self, event: evt.Event, sop_uid: str) -> bytes:
        """Make preamble and File Meta Information (PS3.10 section 7.1)."""
        meta = FileMetaDataset()
        request: Any = event.request
        meta.MediaStorageSOPClassUID = UID(request.AffectedSOPClassUID)
        meta.MediaStorageSOPInstanceUID = UID(sop_uid)
        meta.TransferSyntaxUID = UID(event.context.transfer_syntax)
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION
        meta.SourceApplicationEntityTitle = event.assoc.requestor.ae_title
        meta.ReceivingApplicationEntityTitle = event.assoc.acceptor.ae_title
        out = DicomBytesIO()
        out.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(out, meta, enforce_standard=True)
        return out.getvalue()

    def _refuse(self, event: evt.Event, status: int, error: NodeError, sop_uid: str) -> Dataset:
        reason = f"{error.what}: {error.why}"
        self._tell(event, ReceiveKind.INSTANCE_REFUSED, f"{reason} ({error.fix})", status, sop_uid)
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = reason[:64]
        return answer

    def _rejected(self, event: evt.Event) -> None:
        asked: Any = event.assoc.requestor.primitive
        if asked.called_ae_title not in self._settings.ae_titles:
            titles = ", ".join(self._settings.ae_titles)
            reason = f"called AE title not recognised (we are called {titles}; correct the sender)"
        elif event.assoc.ae.require_calling_aet and asked.calling_ae_title not in [
            title.strip() for title in event.assoc.ae.require_calling_aet
        ]:
            reason = "calling AE title not recognised (add it to `peers` and `accept_from`)"
        else:
            reason = "limit of associations reached (raise `node.max_associations`)"
        self._tell(event, ReceiveKind.ASSOCIATION_REJECTED, reason)

    def _aborted(self, event: evt.Event) -> None:
        self._tell(
            event,
            ReceiveKind.ASSOCIATION_ABORTED,
            "the sender or the network broke off; what was acknowledged stays",
        )

    def _closed(self, event: evt.Event) -> None:
        if event.assoc.is_established:
            self._tell(
                event,
                ReceiveKind.ASSOCIATION_ABORTED,
                "the connection was closed without release; what was acknowledged stays",
            )

    def _tell(
        self,
        event: evt.Event,
        kind: ReceiveKind,
        reason: str,
        status: int | None = None,
        sop_uid: str = "",
    ) -> None:
        requestor = event.assoc.requestor
        asked: Any = requestor.primitive
        told = ReceiveEvent(
            kind=kind,
            at=self._clock.now(),
            calling_ae=asked.calling_ae_title if asked else "",
            called_ae=asked.called_ae_title if asked else "",
            address=str(requestor.address),
            reason=reason,
            status=status,
            sop_instance_uid=sop_uid,
        )
        _log.warning(
            str(kind),
            calling_ae=told.calling_ae,
            called_ae=told.called_ae,
            address=told.address,
            reason=reason,
            status=None if status is None else f"0x{status:04X}",
            sop_instance_uid=sop_uid,
        )
        with contextlib.suppress(SpoolError):
            self._on_event(told)


class _Joined(io.RawIOBase):
    """Two byte strings read as one stream, without copying the large one."""

    def __init__(self, head: bytes, body: memoryview) -> None:
        self._parts = (memoryview(head), body)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        size = sum(len(part) for part in self._parts)
        self._at = offset + (0, self._at, size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        first, second = self._parts
        part, start = (
            (first, self._at)
            if self._at < len(first)
            else (
                second,
                self._at - len(first),
            )
        )
        piece = part[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
