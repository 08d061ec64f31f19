"""The byte server's own end: it is told, with its reason, and seen by who runs it."""

from __future__ import annotations

import socket

from structlog.testing import capture_logs

from dicom_node.config.hosts import HostsSection
from dicom_node.hosts.server import FileServer
from dicom_node.store.database import Database
from tests.peers.ports import wait_for


def ended(section: HostsSection, database: Database) -> dict[str, object]:
    """Start a server that cannot work; returns what it says of its end."""
    with capture_logs() as logs:
        server = FileServer(section, database, {})
        server.start()
        wait_for("the server's end", lambda: not server.alive)
    (told,) = [line for line in logs if line["event"] == "files_not_served"]
    return dict(told)


def test_a_port_that_another_program_has_is_named(
    section: HostsSection, database: Database
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = section.model_copy(update={"listen": "127.0.0.1", "port": port})
        assert ended(taken, database)["why"] == f"127.0.0.1:{port} cannot be listened on"


def test_a_key_that_is_gone_ends_it_with_a_word(section: HostsSection, database: Database) -> None:
    gone = section.model_copy(update={"key": section.key.with_name("gone.key")})
    assert "FileNotFoundError" in str(ended(gone, database))
