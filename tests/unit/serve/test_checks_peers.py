"""`dicom-node check` of peers: TLS files, web peers and their secrets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from dicom_node.demo.ports import free_port
from dicom_node.serve.checks import Check, Level, check_all
from tests.unit.serve.small_node import bundle, config_in


class _Web(BaseHTTPRequestHandler):
    status = 200
    asked: list[str] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        self.send_response(type(self).status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web() -> Iterator[int]:
    _Web.status, _Web.asked = 200, []
    server = HTTPServer(("127.0.0.1", 0), _Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def look(folder: Path, peer: dict[str, Any]) -> Check:
    others = {"xray": {"ae_title": "XRAY", "host": "127.0.0.1", "port": free_port()}}
    config = config_in(folder, peers={"pacs": peer, **others})
    found = {item.name: item for item in check_all(config, {"tiny": bundle(folder)})}
    return found["peer pacs"]


def test_a_web_peer_is_asked_for_one_study(tmp_path: Path, web: int) -> None:
    item = look(tmp_path, {"url": f"http://127.0.0.1:{web}/dicom-web"})
    assert (item.level, _Web.asked) == (Level.OK, ["/dicom-web/studies?limit=1"])
    _Web.status = 403
    item = look(tmp_path, {"url": f"http://127.0.0.1:{web}/dicom-web"})
    assert item.level is Level.WARN
    assert "403" in item.seen


def test_a_secret_that_everybody_may_read_is_told(tmp_path: Path, web: int) -> None:
    secret = tmp_path / "token"
    secret.write_text("abc")
    peer = {"url": f"http://127.0.0.1:{web}/x", "auth": {"token_file": str(secret)}}
    secret.chmod(0o644)
    item = look(tmp_path, peer)
    assert item.level is Level.WARN
    assert "every user may read" in item.seen
    assert item.fix == f"chmod 600 {secret}"
    secret.chmod(0o600)
    item = look(tmp_path, peer)
    assert item.level is Level.WARN
    assert "plain text" in item.seen
    secret.unlink()
    item = look(tmp_path, peer)
    assert f"secret file {secret}" in item.seen


def test_a_certificate_that_cannot_be_used_is_a_failure(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    peer = {"ae_title": "P", "host": "127.0.0.1", "port": free_port(), "tls": {"ca": str(broken)}}
    item = look(tmp_path, peer)
    assert item.level is Level.FAIL
    assert "PEM" in item.fix
