"""Files of another host: fetched over TLS, compared with the index, kept for a while."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from dicom_node.errors import ConfigError, HostAwayError, ImageError
from dicom_node.hosts.files import Files
from dicom_node.model.peers import PeerTls
from dicom_node.requestor import client_context
from dicom_node.store import hosts
from dicom_node.store.kept import KeptFile, KeptKind
from dicom_node.store.tables import Instance
from tests.peers.certificates import Certificates
from tests.unit.hosts.conftest import MakeFiles, Rx


def ask(rx: Rx, path: str, token: str = "a secret of all hosts", method: str = "GET") -> int:
    """Ask the server of `rx` for something; returns the status."""
    context = client_context(PeerTls(ca=rx.section.ca))
    with httpx.Client(verify=context, trust_env=False) as client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"https://127.0.0.1:{rx.section.port}{path}"
        return client.request(method, url, headers=headers).status_code


def address_of(kept: KeptFile) -> str:
    return f"/{kept.kind}/{kept.id}/{kept.sha256}"


def test_images_and_reports_of_another_host_are_fetched(rx: Rx, make_files: MakeFiles) -> None:
    image, report = rx.receive(), rx.make(b"a report")
    files = make_files()
    here = files.path(image, "job 1")
    assert here != rx.file(image)
    assert here.read_bytes() == rx.file(image).read_bytes()
    assert dcmread(here).StudyInstanceUID == "1.2.3"
    assert files.read(report) == b"a report"
    assert files.disk_sha256(image) == image.sha256


def test_what_is_here_or_shared_is_not_asked_for(rx: Rx, make_files: MakeFiles) -> None:
    rx.stop()
    files = make_files()
    for host in (None, "ai"):
        mine = KeptFile(KeptKind.INSTANCE, 1, "studies/x.dcm", "0", host)
        assert files.path(mine, "job").name == "x.dcm"
        assert files.disk_sha256(mine) is None


def test_a_host_that_is_away_is_said_to_be_and_its_files_come_when_it_is_back(
    rx: Rx, make_files: MakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.hosts.client._LEFT_ALONE", 0.0)
    image, files = rx.receive(), make_files()
    rx.stop()
    with pytest.raises(HostAwayError, match="host rx: it holds files and does not answer"):
        files.path(image, "job")
    with pytest.raises(HostAwayError):
        files.disk_sha256(image)
    rx.start()
    assert files.path(image, "job").read_bytes() == rx.file(image).read_bytes()


def test_a_host_that_did_not_answer_is_left_alone_for_a_moment(
    rx: Rx, make_files: MakeFiles
) -> None:
    image, files = rx.receive(), make_files()
    rx.stop()
    with pytest.raises(HostAwayError):
        files.path(image, "job")
    rx.start()
    with pytest.raises(HostAwayError, match="no connection"):
        files.path(image, "job")


def test_bytes_that_are_not_those_of_the_index_reach_nobody(rx: Rx, make_files: MakeFiles) -> None:
    image, report, files = rx.receive(), rx.make(b"a report"), make_files()
    for kept in (image, report):
        content = bytearray(rx.file(kept).read_bytes())
        content[-1] ^= 1
        rx.file(kept).write_bytes(content)
        with pytest.raises(ImageError, match="gave other bytes"):
            files.path(kept, "job")
    assert files.disk_sha256(image) != image.sha256


@pytest.mark.parametrize("why", ["its file is gone", "nobody knows the host"])
def test_a_file_that_never_comes_back_is_told_from_a_host_that_is_away(
    rx: Rx, make_files: MakeFiles, why: str
) -> None:
    image, files = rx.receive(), make_files()
    if why == "its file is gone":
        rx.file(image).unlink()
    else:
        with rx.database.write() as session:
            hosts.forget(session, "rx", rx.clock.now())
    with pytest.raises(ImageError, match=f"image {image.id}: host rx"):
        files.path(image, "job")


def test_only_so_much_is_kept_beside_what_is_in_use(rx: Rx, make_files: MakeFiles) -> None:
    images = [rx.receive() for _ in range(4)]
    size = rx.file(images[0]).stat().st_size
    files = make_files(most_bytes=int(1.5 * size))
    used = [files.path(image, number // 2) for number, image in enumerate(images)]
    assert [file.exists() for file in used] == [True] * 4
    files.release(0)
    assert [file.exists() for file in used] == [False, True, True, True]
    files.release(1)
    assert [file.exists() for file in used] == [False, False, False, True]
    rx.stop()
    assert files.path(images[3], 2) == used[3]
    files.close()
    assert not used[3].exists()


def test_what_a_process_that_was_killed_had_fetched_is_removed_and_what_another_has_is_not(
    rx: Rx, make_files: MakeFiles, tmp_path: Path
) -> None:
    left = tmp_path / "ai" / "fetched" / "of-a-dead-one"
    left.mkdir(parents=True)
    (left / "x.dcm").write_bytes(b"patient data")
    image = rx.receive()
    one = make_files().path(image, "job 1")
    assert not left.exists()
    assert make_files().path(image, "job 2") != one
    assert one.exists()


@pytest.mark.parametrize("token", ["", "another", "a secret of all host"])
def test_without_the_token_nothing_is_said(rx: Rx, token: str) -> None:
    image = rx.receive()
    for path in ("/", address_of(image), f"{address_of(image)}/disk"):
        assert ask(rx, path, token) == 401


def test_only_a_file_of_this_host_is_given_and_only_to_who_knows_its_hash(rx: Rx) -> None:
    image = rx.receive()
    assert ask(rx, address_of(image)) == 200
    assert ask(rx, "/") == 204
    for path in (
        f"/instances/{image.id}/{'0' * 64}",
        f"/instances/{image.id + 1}/{image.sha256}",
        f"/reports/{image.id}/{image.sha256}",
        f"/studies/{image.id}/{image.sha256}",
        f"/instances/{image.id}",
        "/instances",
        "/docs",
        "/..%2f..%2fetc/passwd",
    ):
        assert ask(rx, path) == 404, path
    assert ask(rx, address_of(image), method="POST") == 405
    with rx.database.write() as session:
        session.get_one(Instance, image.id).host = "other"
    assert ask(rx, address_of(image)) == 404


def test_a_path_of_the_index_that_leaves_the_folder_gives_nothing(rx: Rx, tmp_path: Path) -> None:
    rx.receive()
    outside = rx.make(b"a report")
    secret = tmp_path / "secret"
    secret.write_bytes(b"a report")
    (rx.reports / "made.dcm").unlink()
    os.symlink(secret, rx.reports / "made.dcm")
    assert ask(rx, address_of(outside)) == 404


def test_neither_side_trusts_a_strangers_certificate(
    rx: Rx, make_files: Callable[..., Files], certificates: Certificates, tmp_path: Path
) -> None:
    image = rx.receive()
    other = certificates.ca.certificate.parent / "other.pem"
    files = make_files(ca=other)
    with pytest.raises(HostAwayError, match="its certificate does not pass"):
        files.path(image, "job")
    wrong = tmp_path / "wrong"
    wrong.write_text("not the token")
    with pytest.raises(HostAwayError, match="does not take our token"):
        make_files(token_file=wrong).path(image, "job")
    with pytest.raises(ConfigError):
        make_files(ca=tmp_path / "none.pem")
