"""OHIF, the viewer of many sites, served beside Orthanc's DICOMweb from one origin.

`deploy/install-test-peers.sh` unpacks its build from npm. The server is the reverse proxy that a
site puts before both: files of the viewer, `/dicom-web` to Orthanc.
"""

from __future__ import annotations

import http.client
import json
import mimetypes
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

DIST: Final = Path(__file__).parent / "js" / "ohif"
_DICOMWEB: Final = "/dicom-web"
_TYPES: Final = {".js": "text/javascript", ".wasm": "application/wasm"}
_HOP_BY_HOP: Final = {"connection", "transfer-encoding", "keep-alive", "content-length"}

_SOURCE: Final = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "pacs",
    "configuration": {
        "friendlyName": "Orthanc",
        "name": "pacs",
        "qidoRoot": _DICOMWEB,
        "wadoRoot": _DICOMWEB,
        "wadoUriRoot": _DICOMWEB,
        # Orthanc's plugin 1.7 answers 400 to "includefield"
        "qidoSupportsIncludeField": False,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True},
    },
}
_CONFIG: Final = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    # neither the tour of the first visit nor the banner
    "customizationService": [{"ohif.tours": {"$set": []}}],
    "investigationalUseDialog": {"option": "never"},
    "showStudyList": True,
    "maxNumberOfWebWorkers": 2,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "strictZSpacingForVolumeViewport": True,
    "defaultDataSourceName": "pacs",
    "dataSources": [_SOURCE],
}


@contextmanager
def serving_ohif(orthanc_port: int) -> Iterator[str]:
    """Serve the viewer for an Orthanc on loopback; gives the address of its start page."""
    assert (DIST / "index.html").exists(), "OHIF is not unpacked: `make peers` fetches it from npm"

    class Handler(_Handler):
        orthanc = orthanc_port

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="ohif", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    orthanc: int
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith(f"{_DICOMWEB}/"):
            self._forward()
        elif path == "/app-config.js":
            self._answer("text/javascript", f"window.config = {json.dumps(_CONFIG)};".encode())
        else:
            self._file(unquote(path))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _file(self, path: str) -> None:
        file = (DIST / path.lstrip("/")).resolve()
        if not (file.is_relative_to(DIST) and file.is_file()):
            file = DIST / "index.html"  # the viewer's own routes
        kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
        self._head(200, kind or "application/octet-stream", file.stat().st_size)
        with file.open("rb") as content:
            shutil.copyfileobj(content, self.wfile)

    def _forward(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.orthanc, timeout=60)
        try:
            # with the Host of the browser's request, from which Orthanc makes its bulk data URLs
            kept = ("Host", "Accept")
            headers = {name: self.headers[name] for name in kept if name in self.headers}
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        kind = answer.getheader("Content-Type", "application/octet-stream")
        self._answer(kind, body, answer.status)

    def _answer(self, kind: str, body: bytes, status: int = 200) -> None:
        self._head(status, kind, len(body))
        self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        # volumes need shared memory, which needs a page that is isolated from other origins
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
