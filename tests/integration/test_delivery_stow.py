"""STOW-RS to Orthanc's DICOMweb service: with and without password, streamed from the disk."""

from __future__ import annotations

import base64
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from dicom_node.delivery import Outgoing, StowRs, Verdict
from dicom_node.delivery.stow import WebTimeouts
from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.ports import free_port
from dicom_node.model.peers import WebPeer
from tests.factories import radiograph
from tests.integration.conftest import DICOMWEB
from tests.peers.certificates import Certificates, make_ca, make_certificates

SECRET = "s3cret-ümlaut word"
SHORT = WebTimeouts(connect=5, answer=30)


def outgoing(folder: Path, number: int = 1, **attributes: object) -> Outgoing:
    dataset = radiograph(**attributes)
    file = folder / f"{number}.dcm"
    dataset.save_as(file, enforce_file_format=True)
    return Outgoing(number, file, str(dataset.SOPClassUID))


@pytest.fixture(params=["open", "with password"])
def orthanc(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(
        tmp_path / "orthanc",
        ae_title="PACS",
        dicom_port=free_port(),
        http_port=free_port(),
        plugins=(DICOMWEB,),
        user=("node", SECRET) if request.param == "with password" else None,
    ) as running:
        yield running


def peer_of(orthanc: Orthanc, folder: Path, secret: str = SECRET) -> WebPeer:
    file = folder / "password"
    file.write_text(secret + "\n")
    return WebPeer.model_validate(
        {
            "url": f"http://127.0.0.1:{orthanc.http_port}/dicom-web/",
            "auth": {"user": "node", "password_file": file},
        }
    )


def test_orthanc_has_what_was_sent(orthanc: Orthanc, tmp_path: Path) -> None:
    to = StowRs(peer_of(orthanc, tmp_path), SHORT)
    assert to.check() is None
    items = [outgoing(tmp_path, number) for number in range(1, 4)]
    answers = list(to.send(items))
    assert {answer.verdict for answer in answers} == {Verdict.SENT}, answers
    assert {answer.text for answer in answers} == {"HTTP 200"}
    assert len(orthanc.instances()) == 3
    for item, entry in zip(
        sorted(items, key=lambda i: i.file.read_bytes()),
        sorted(orthanc.file(entry["ID"]) for entry in orthanc.instances()),
        strict=True,
    ):
        assert item.file.read_bytes() == entry
    # the same once more, as after a crash between its answer and our record of it
    assert {answer.verdict for answer in to.send(items)} == {Verdict.SENT}
    assert len(orthanc.instances()) == 3


def test_one_file_that_is_no_dicom_does_not_hold_up_the_others(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    items = [outgoing(tmp_path, number) for number in range(1, 4)]
    items[1].file.write_bytes(b"no DICOM at all" * 100)
    to = StowRs(peer_of(orthanc, tmp_path), SHORT)
    answers = {answer.id: answer.verdict for answer in to.send(items)}
    assert answers[1] is Verdict.SENT
    assert answers[2] is not Verdict.SENT
    assert answers[3] is Verdict.SENT
    assert len(orthanc.instances()) == 2


def test_a_wrong_password_is_said_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Orthanc(
        tmp_path / "orthanc",
        ae_title="PACS",
        dicom_port=free_port(),
        http_port=free_port(),
        plugins=(DICOMWEB,),
        user=("node", SECRET),
    ) as orthanc:
        to = StowRs(peer_of(orthanc, tmp_path, "another"), SHORT)
        why = to.check()
        assert why is not None
        assert "401" in why
        assert "token or password" in why
        (answer,) = to.send([outgoing(tmp_path)])
        assert answer.verdict is Verdict.TRY_AGAIN
        assert "401" in answer.text
        assert orthanc.instances() == []
    shown = capsys.readouterr()
    encoded = base64.b64encode(b"node:another").decode()
    for text in (why, answer.text, shown.out, shown.err):
        assert "another" not in text
        assert encoded not in text


def test_a_secret_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    web = WebPeer.model_validate(
        {"url": "http://127.0.0.1:1/x", "auth": {"token_file": tmp_path / "absent"}}
    )
    (answer,) = StowRs(web).send([outgoing(tmp_path)])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert f"secret file {tmp_path / 'absent'}: No such file" in answer.text
    (tmp_path / "absent").write_text("one\ntwo")
    assert "several lines" in str(StowRs(web).check())
    (tmp_path / "absent").write_text("ä token")
    assert "holds no token" in str(StowRs(web).check())


def test_a_server_that_is_not_there_is_an_answer(tmp_path: Path) -> None:
    web = WebPeer(url=f"http://127.0.0.1:{free_port()}/dicom-web")
    (answer,) = StowRs(web, SHORT).send([outgoing(tmp_path)])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert "Connection refused" in answer.text


class _Counting(BaseHTTPRequestHandler):
    """Takes everything, keeps nothing; counts the bytes and notes the token."""

    protocol_version = "HTTP/1.1"
    received = 0
    token = ""

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        type(self).token = self.headers.get("Authorization", "")
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            left -= len(piece)
            type(self).received += len(piece)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[tuple[int, Certificates]]:
    """An https server that counts."""
    certificates = make_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.certificate, certificates.server.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Counting)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    _Counting.received = 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], certificates
    server.shutdown()
    server.server_close()
    thread.join()


def https_peer(port: int, certificates: Certificates, folder: Path) -> WebPeer:
    (folder / "token").write_text("abc.def")
    return WebPeer.model_validate(
        {
            "url": f"https://127.0.0.1:{port}/dicom-web",
            "auth": {"token_file": folder / "token"},
            "tls": {"ca": certificates.ca.certificate},
        }
    )


def test_https_with_a_token(counting: tuple[int, Certificates], tmp_path: Path) -> None:
    port, certificates = counting
    peer = https_peer(port, certificates, tmp_path)
    (answer,) = StowRs(peer, SHORT).send([outgoing(tmp_path)])
    assert answer.verdict is Verdict.SENT
    assert _Counting.token == "Bearer abc.def"
    other = make_ca(tmp_path, "other").certificate
    distrusted = peer.model_copy(
        update={"tls": peer.tls.model_copy(update={"ca": other}) if peer.tls else None}
    )
    (answer,) = StowRs(distrusted, SHORT).send([outgoing(tmp_path)])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert f"checked with CA file {other}" in answer.text


_SEND = """
import resource, sys
from pathlib import Path
from dicom_node.delivery import Outgoing, StowRs
from dicom_node.model.peers import WebPeer

peer = WebPeer(url=sys.argv[1], tls={"ca": sys.argv[2]})
(answer,) = StowRs(peer).send([Outgoing(1, Path(sys.argv[3]), "1.2.840.10008.5.1.4.1.1.7")])
print(answer.verdict.name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_large_object_is_not_taken_into_memory(
    counting: tuple[int, Certificates], tmp_path: Path
) -> None:
    port, certificates = counting
    ca = str(certificates.ca.certificate)
    peaks = {}
    for mib in (1, 1024):
        file = tmp_path / f"{mib}.dcm"
        _film_of(mib, file)
        done = subprocess.run(
            [sys.executable, "-c", _SEND, f"https://127.0.0.1:{port}/x", ca, str(file)],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        verdict, peak = done.stdout.split()
        assert verdict == "SENT"
        peaks[mib] = int(peak)
    assert _Counting.received > 1024 * 2**20
    assert peaks[1024] < peaks[1] + 16, peaks


def _film_of(mib: int, file: Path) -> None:
    """A file whose pixels are a hole of so many MiB: it takes no place on the disk."""
    dataset: FileDataset = radiograph()
    del dataset.PixelData
    dataset.save_as(file, enforce_file_format=True)
    with file.open("ab") as stream:
        length = mib * 2**20
        stream.write(b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little"))
        stream.truncate(stream.tell() + length)
