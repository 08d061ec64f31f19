"""A peer is asked now, and the certificate that it shows is remembered."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.delivery import CStore
from dicom_node.errors import ConfigError
from dicom_node.model.peers import Peer, PeerTls
from dicom_node.serve.peer_care import certificate_end_of, echo_now, peer_name_for
from dicom_node.store import looks
from dicom_node.store.database import Database
from tests.factories import ManualClock
from tests.peers.certificates import Certificates, make_certificates
from tests.unit.serve.small_node import config_in

NO_ROUTES: dict[str, object] = {"routes": []}


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "certificates")


@pytest.fixture
def tls_port(certificates: Certificates) -> Iterator[int]:
    """A server that only shakes hands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.certificate, certificates.server.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    plain, _ = server.accept()
                except OSError:
                    return  # the test is over
                with plain:
                    try:
                        context.wrap_socket(plain, server_side=True).close()
                    except OSError:
                        continue  # the client did not like our certificate

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(30)


def peer(port: int, ca: Path | None) -> Peer:
    tls = None if ca is None else PeerTls(ca=ca)
    return Peer(ae_title="P", host="127.0.0.1", port=port, tls=tls)


def test_the_end_of_a_shown_certificate_is_seen(certificates: Certificates, tls_port: int) -> None:
    end = certificate_end_of(peer(tls_port, certificates.ca.certificate))
    assert end is not None
    assert end > datetime.now(UTC) + timedelta(days=1)


def test_a_certificate_that_cannot_be_verified_is_none(
    certificates: Certificates, tls_port: int
) -> None:
    assert certificate_end_of(peer(tls_port, certificates.stranger.certificate)) is None
    assert certificate_end_of(peer(tls_port, None)) is None


def test_an_echo_is_kept_with_its_answer(
    tmp_path: Path, database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_in(tmp_path, **NO_ROUTES)
    monkeypatch.setattr(CStore, "check", lambda self: "it rejects us")
    found = echo_now(config, database, clock, "pacs", "ann")
    assert found.trouble == "it rejects us"
    with database.read() as session:
        assert looks.peer_looks(session)["pacs"].trouble == "it rejects us"
    with pytest.raises(ConfigError, match="no such peer"):
        echo_now(config, database, clock, "nobody", "ann")


def test_a_name_is_made_of_the_title_and_is_free(tmp_path: Path) -> None:
    config = config_in(tmp_path, **NO_ROUTES)
    assert peer_name_for("CT ROOM_4", config) == "ct-room-4"
    assert peer_name_for("PACS", config) == "pacs-2"
    assert peer_name_for("__", config) == "peer"
