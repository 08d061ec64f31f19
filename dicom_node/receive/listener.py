"""The listening socket: starts our association on each connection."""

from __future__ import annotations

import errno
import socket
import sys
import threading
import time
from typing import Any, Final

import structlog
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.transport import (
    AddressInformation,
    AssociationServer,
    AssociationSocket,
    RequestHandler,
)

from dicom_node.receive.association import StreamingAssociation
from dicom_node.receive.contexts import VERIFICATION
from dicom_node.receive.desk import Desk
from dicom_node.receive.tls import Certificates

_log = structlog.get_logger()

_BACKLOG: Final = 128
_ACCEPT_PAUSE: Final = 0.2


class _Handler(RequestHandler):
    """Starts our association on a new connection."""

    server: Listener

    def handle(self) -> None:
        self.server.begin(self.request, self.local, self.remote)


class Listener(AssociationServer):
    """Accepts connections; everything else happens in the association's own thread."""

    request_queue_size = _BACKLOG

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        desk: Desk,
        certificates: Certificates | None = None,
    ) -> None:
        self._desk = desk
        self._certificates = certificates
        self._thread: threading.Thread | None = None
        self._running: set[StreamingAssociation] = set()
        super().__init__(
            ae,
            address,
            desk.settings.ae_titles[0],
            [build_context(VERIFICATION)],
            request_handler=_Handler,
        )

    def server_bind(self) -> None:
        """Bind, beside other receivers where that is wanted."""
        if self._desk.settings.reuse_port:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    @property
    def _listener(self) -> socket.socket:
        if self.socket is None:
            raise RuntimeError("the server has no socket")
        return self.socket

    def get_request(self) -> Any:
        """Accept a connection."""
        try:
            connection, address = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                _log.error("connection_not_accepted", why=error.strerror)
                threading.Event().wait(_ACCEPT_PAUSE)  # or the waiting connection spins us
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Tell whether there is room for a connection more."""
        self._running = {one for one in self._running if one.is_alive()}
        if len(self._running) < self._desk.settings.max_connections:
            return True
        _log.warning("connection_not_accepted", why="all connections are in use")
        return False

    def start(self) -> None:
        """Accept connections, in a thread."""
        self._thread = threading.Thread(
            target=self.serve_forever, name=f"listener-{self.server_address[1]}", daemon=True
        )
        self._thread.start()

    def begin(
        self, connection: socket.socket, local: AddressInformation, remote: AddressInformation
    ) -> None:
        """Start an association on a connection."""
        tls = self._certificates.context() if self._certificates else None
        association = StreamingAssociation(self.ae, self._desk, tls)
        association.set_socket(AssociationSocket(association, client_socket=connection))
        association.acceptor.maximum_length = self._desk.settings.max_pdu
        association.acceptor.ae_title = self.ae_title
        association.acceptor.address_info = local
        association.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        association.acceptor.implementation_version_name = self.ae.implementation_version_name
        association.requestor.address_info = remote
        association.bind(evt.EVT_C_ECHO, lambda _: 0x0000)
        association.start()
        self._running.add(association)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note an error on the way to an association; the connection is closed."""
        kind = sys.exc_info()[0]
        _log.error("connection_failed", error=kind.__name__ if kind else "")

    def service_actions(self) -> None:
        """Do nothing: associations end without the garbage collector's help."""

    def stop(self, timeout: float) -> None:
        """Stop accepting; end the associations, those with an image in hand after it."""
        super(AssociationServer, self).shutdown()
        self.server_close()
        if self._thread is not None:
            self._thread.join()
        by = time.monotonic() + timeout
        running = [one for one in self._running if one.is_alive()]
        for association in running:
            association.stop(by)
        for association in running:
            association.join(max(by - time.monotonic(), 0) + 2 * _ACCEPT_PAUSE + 2)
        left = sum(association.is_alive() for association in running)
        if left:
            _log.error("associations_do_not_end", number=left)
