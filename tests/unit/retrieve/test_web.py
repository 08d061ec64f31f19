"""A DICOMweb server that says no to a series fails that series, not all that come behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dicom_node.errors import UnreachableError
from dicom_node.model.peers import WebPeer
from dicom_node.retrieve import FoundSeries, Web, WebArchive

SERIES = [FoundSeries("1.2.3", "DX", 1), FoundSeries("1.2.4", "DX", 1)]


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def archive(asked: list[str]) -> Iterator[WebArchive]:
    """A server that answers the first request with 404, all others with 500."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404 if len(asked) == 1 else 500)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    storage: Any = None
    peer = WebPeer(url=f"http://127.0.0.1:{server.server_address[1]}/dicom-web")
    yield WebArchive(Web("web", peer, dict), storage)
    server.shutdown()
    server.server_close()
    thread.join(30)


def test_a_series_that_the_server_does_not_give_fails(
    archive: WebArchive, asked: list[str]
) -> None:
    pulled = archive.pull("1.2", SERIES[:1])
    assert (pulled.completed, pulled.ok) == (0, False)
    assert pulled.text == "peer web: HTTP status 404 (Not Found)"
    assert asked == ["/dicom-web/studies/1.2/series/1.2.3"]


def test_a_server_in_trouble_is_to_be_asked_again(archive: WebArchive) -> None:
    with pytest.raises(UnreachableError, match="500"):
        archive.pull("1.2", SERIES)
