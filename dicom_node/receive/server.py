"""The receiver: an acceptor for C-ECHO and C-STORE that acknowledges only what is durable."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

import pydicom.config
import structlog
from pydicom.uid import UID
from pynetdicom import AE, _config
from pynetdicom import __version__ as pynetdicom_version
from pynetdicom.presentation import build_context
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.clock import Clock
from dicom_node.errors import NodeError
from dicom_node.model.commitment import Commitments
from dicom_node.model.events import EventSink
from dicom_node.receive.contexts import VERIFICATION
from dicom_node.receive.desk import Desk
from dicom_node.receive.settings import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    ReceiverSettings,
)
from dicom_node.receive.stock import StockHandlers
from dicom_node.receive.tls import Certificates
from dicom_node.store.spool import Spool

if TYPE_CHECKING:
    from dicom_node.receive.listener import Listener

_log = structlog.get_logger()

TESTED_VERSIONS: Final = frozenset({"3.0.4"})
"""Versions of pynetdicom that `receive.association` was tested with."""


class Receiver:
    """Listens on a port until it is stopped.

    C-STORE answers 0x0000 after the file is durable in the spool, from where it goes to the
    inbox whatever happens; any other status means that nothing was kept, and leaves an event.

    Args:
        commitments: Keeps storage commitment requests; None: they are refused.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        spool: Spool,
        on_event: EventSink,
        clock: Clock,
        commitments: Commitments | None = None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._desk = Desk(settings, spool, on_event, clock, commitments)
        self._stock = StockHandlers(self._desk)
        self._ae = _application_entity(settings)
        self._servers: list[Listener | ThreadedAssociationServer] = []

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port_of(0)

    @property
    def tls_port(self) -> int:
        """The port that is listened on with TLS."""
        return self._port_of(1)

    @property
    def associations(self) -> int:
        """The number of associations that are in."""
        return self._desk.associations

    def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: The TLS certificate cannot be used.
            NodeError: A port cannot be listened on.
            SpoolError: The spool's disk refuses.
        """
        quieten_library()
        left = self._spool.clean_up()
        if left.kept or left.removed:
            _log.warning("unfinished_files_found", kept=left.kept, removed=left.removed)
        self._spool.keep_reserve(self._settings.reserve)
        if not is_tested_version():
            _log.warning(
                "pynetdicom_not_tested",
                version=pynetdicom_version,
                tested=sorted(TESTED_VERSIONS),
                effect="its own association is run: slower, and large images need memory",
            )
        tls = self._settings.tls
        try:
            self._listen(self._settings.port, None)
            if tls is not None:
                self._listen(tls.port, Certificates(tls))
        except NodeError:
            self.stop()
            raise

    def change(self, settings: ReceiverSettings) -> None:
        """Let in, from now on, whom other settings let in; associations go on as they are.

        How we listen and what we take stays as it was at the start.
        """
        self._desk.change(settings)

    def stop(self) -> None:
        """Stop listening; images in hand are finished, then the associations are ended."""
        servers, self._servers = self._servers, []
        stoppers = [
            threading.Thread(target=server.stop, args=(self._settings.stop_timeout,))
            for server in servers
            if not isinstance(server, ThreadedAssociationServer)
        ]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()
        self._ae.shutdown()
        self._spool.close()

    def _listen(self, port: int, certificates: Certificates | None) -> None:
        stock = self._settings.stock or not is_tested_version()
        address = (self._settings.host, port)
        server: Listener | ThreadedAssociationServer | None
        try:
            if stock:
                server = self._ae.start_server(
                    address,
                    block=False,
                    evt_handlers=self._stock.bound(),
                    contexts=[build_context(VERIFICATION)],
                    ssl_context=certificates.context() if certificates else None,
                )
            else:
                # it stands on inner parts of pynetdicom that another version may not have
                from dicom_node.receive.listener import Listener

                server = Listener(self._ae, address, self._desk, certificates)
                server.start()
        except OSError as error:
            raise NodeError(
                f"port {address[0]}:{address[1]}",
                error.strerror or "it cannot be listened on",
                "stop the other program on it, or choose another port",
            ) from error
        if server is not None:
            self._servers.append(server)
        _log.info(
            "receiver_listens",
            host=self._settings.host,
            port=self._port_of(-1),
            tls=certificates is not None,
            stock=stock,
        )

    def _port_of(self, number: int) -> int:
        if not self._servers:
            raise RuntimeError("the receiver is not started")
        return int(self._servers[number].server_address[1])


def is_tested_version() -> bool:
    """Tell whether our association can run on the pynetdicom that is installed."""
    return pynetdicom_version in TESTED_VERSIONS


def _application_entity(settings: ReceiverSettings) -> AE:
    ae = AE(settings.ae_titles[0])
    ae.maximum_associations = sys.maxsize  # ours to decide, see `receive.policy`
    ae.maximum_pdu_size = settings.max_pdu
    ae.network_timeout = settings.network_timeout
    ae.acse_timeout = settings.acse_timeout
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    return ae


def quieten_library() -> None:
    """Keep pynetdicom from logging what it receives: its texts may hold patient data.

    What matters of it is in our own events.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


def leave_values_alone() -> None:
    """Keep pydicom from checking values, in a process that does nothing but receive.

    Its warnings quote the values that break a rule, and to look for such UIDs takes a third of the
    time of an association request; what files an image is checked by `receive.filing`.
    """
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
