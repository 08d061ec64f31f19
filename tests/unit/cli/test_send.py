"""`send`: files to a peer as they are; what was not taken is named, with the peer's answer."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, dcmwrite
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.events import Event

from dicom_node.delivery import folder
from tests.factories import radiograph
from tests.unit.cli.command import Ended, dicom_node
from tests.unit.serve.small_node import write_config


class Pacs:
    """A storage SCP that refuses what the test tells it to."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.taken: list[str] = []
        self._lock = threading.Lock()
        ae = AE("PACS")
        ae.supported_contexts = StoragePresentationContexts
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def _store(self, event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self.statuses.get(uid, 0)
        if status in (0, 0xB000):
            with self._lock:
                self.taken.append(uid)
        return status

    def close(self) -> None:
        if self._server in self._server.ae._servers:
            self._server.shutdown()


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs()
    yield pacs
    pacs.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images and a text; one name holds what a terminal's markup would swallow."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b [red]", "c"):
        dcmwrite(folder / f"{name}.dcm", radiograph(study="1.2.3"), enforce_file_format=True)
    (folder / "readme.txt").write_text("no image")
    return folder


def send(folder: Path, images: Path, port: int, peer: str = "pacs") -> Ended:
    peers = {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": port}}
    config = write_config(folder, peers=peers, accept_from=["pacs"])
    return dicom_node("send", images, peer, "--config", config)


def uid_of(file: Path) -> str:
    return str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def test_every_image_of_a_folder_is_sent_and_what_is_none_is_named(
    tmp_path: Path, images: Path, pacs: Pacs
) -> None:
    ended = send(tmp_path, images, pacs.port)
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines == [
        f"left out: {images / 'readme.txt'}: no DICOM file, not sent",
        "3 of 3 files sent to pacs",
    ]
    assert len(pacs.taken) == 3


def test_one_file_is_enough(tmp_path: Path, images: Path, pacs: Pacs) -> None:
    assert send(tmp_path, images / "a.dcm", pacs.port).lines == ["1 of 1 files sent to pacs"]


def test_what_the_peer_refuses_is_named_whole_with_its_answer_and_the_rest_is_sent(
    tmp_path: Path, images: Path, pacs: Pacs
) -> None:
    pacs.statuses = {
        uid_of(images / "b [red].dcm"): 0xA700,
        uid_of(images / "c.dcm"): 0xB000,
    }
    ended = send(tmp_path, images, pacs.port)
    assert ended.status == 1
    assert f"not taken: {images / 'b [red].dcm'}: status 0xA700 (Failure)" in ended.lines
    assert f"taken with a warning: {images / 'c.dcm'}: status 0xB000 (Warning)" in ended.lines
    assert ended.lines[-1] == "2 of 3 files sent to pacs"
    assert ended.err.startswith("1 of 3 files: pacs did not take them")
    assert len(pacs.taken) == 2


def test_what_the_peer_has_already_is_sent(tmp_path: Path, images: Path, pacs: Pacs) -> None:
    pacs.statuses = {uid_of(images / "c.dcm"): 0x0111}
    ended = send(tmp_path, images, pacs.port)
    assert ended.status == 0, ended.out
    told = "status 0x0111 (Warning: it has an object of this UID already)"
    assert f"taken with a warning: {images / 'c.dcm'}: {told}" in ended.lines
    assert ended.lines[-1] == "3 of 3 files sent to pacs"


def test_a_peer_that_is_away_fails_every_file(tmp_path: Path, images: Path, pacs: Pacs) -> None:
    port = pacs.port
    pacs.close()
    ended = send(tmp_path, images, port)
    assert ended.status == 1
    assert ended.out.count("not taken: ") == 3
    assert ended.out.count("the connection failed") == 3
    assert "dicom-node check" in ended.err


def test_a_folder_without_images_is_told(tmp_path: Path, pacs: Pacs) -> None:
    (tmp_path / "empty").mkdir()
    ended = send(tmp_path, tmp_path / "empty", pacs.port)
    assert ended.status == 1
    assert "it holds no DICOM file" in ended.err
    assert "no such file or folder" in send(tmp_path, tmp_path / "none", pacs.port).err


def test_a_peer_that_node_yaml_has_not_is_a_mistake_of_usage(
    tmp_path: Path, images: Path, pacs: Pacs
) -> None:
    ended = send(tmp_path, images, pacs.port, peer="paks")
    assert ended.status == 2
    assert "known: pacs" in ended.err


def test_files_that_are_garbled_stop_none_of_the_others(
    tmp_path: Path, images: Path, pacs: Pacs
) -> None:
    whole = (images / "a.dcm").read_bytes()
    meta_end = 144 + int.from_bytes(whole[140:144], "little")
    # the group length in the meta information is cut off
    (images / "d.dcm").write_bytes(whole[:142])
    # the first element of the data set is of a VR with the length of another
    (images / "e.dcm").write_bytes(whole[: meta_end + 4] + b"UL\x03\x00abc" + whole[meta_end:])
    ended = send(tmp_path, images, pacs.port)
    assert "a mistake of its own" not in ended.err
    assert f"left out: {images / 'd.dcm'}: no DICOM file, not sent" in ended.lines
    assert len(pacs.taken) >= 3


def test_a_folder_or_a_file_without_rights_is_told_before_anything_is_sent(
    tmp_path: Path, images: Path, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root there are no rights to lack, so the system's answer is made up."""
    inner = images / "inner"
    inner.mkdir()
    scandir, read = os.scandir, folder.read_file_meta_info

    def denied_folder(path: str | Path) -> Any:
        if Path(path) == inner:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    def denied_file(path: Path) -> Any:
        if path.name == "c.dcm":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", denied_folder)
        ended = send(tmp_path, images, pacs.port)
    assert ended.status == 1
    assert ended.err.startswith(f"{inner}: Permission denied")
    monkeypatch.setattr(folder, "read_file_meta_info", denied_file)
    ended = send(tmp_path, images, pacs.port)
    assert ended.status == 1
    assert ended.err.startswith(f"{images / 'c.dcm'}: Permission denied")
    assert pacs.taken == []
