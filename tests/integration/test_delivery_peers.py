"""Delivery against real and dead peers: "sent" only when the peer has it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.association import Association

from dicom_node.delivery import CStore, Outgoing, Verdict, echo, store
from dicom_node.delivery.folder import files_in, send_files
from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.ports import free_port
from dicom_node.errors import NodeError
from dicom_node.model.peers import Peer
from tests.factories import radiograph
from tests.peers.calling import US
from tests.peers.dcmtk import ENVIRONMENT, program
from tests.peers.ports import listens, wait_for


def peer(port: int, title: str = "PACS") -> Peer:
    return Peer(ae_title=title, host="127.0.0.1", port=port)


@pytest.fixture
def image(tmp_path: Path) -> Outgoing:
    dataset = radiograph()
    file = tmp_path / "image.dcm"
    dataset.save_as(file, enforce_file_format=True)
    return Outgoing(1, file, str(dataset.SOPClassUID))


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(
        tmp_path / "orthanc", ae_title="PACS", dicom_port=free_port(), http_port=free_port()
    ) as running:
        yield running


def test_orthanc_has_what_was_sent(orthanc: Orthanc, image: Outgoing) -> None:
    assert echo(US, peer(orthanc.dicom_port)) is None
    answers = list(store(US, peer(orthanc.dicom_port), [image]))
    assert [(a.verdict, a.text) for a in answers] == [(Verdict.SENT, "status 0x0000 (Success)")]
    assert [item["Modality"] for item in orthanc.instances()] == ["DX"]
    again = list(store(US, peer(orthanc.dicom_port), [image]))
    assert again[0].verdict is Verdict.SENT
    assert len(orthanc.instances()) == 1


class _NeverPauses:
    """An Event that does not hold up pynetdicom's thread: the widest possible gap of its pause."""

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        return True


def test_no_answer_is_lost_to_the_thread_of_the_association(
    orthanc: Orthanc, image: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Association.__init__

    def never_pausing(self: Association, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        self._reactor_checkpoint = _NeverPauses()

    monkeypatch.setattr(Association, "__init__", never_pausing)
    monkeypatch.setattr(
        Association, "_is_paused", property(lambda _: True, lambda _, value: None), raising=False
    )
    answers = list(store(US, peer(orthanc.dicom_port), [image] * 20))
    assert [answer.verdict for answer in answers] == [Verdict.SENT] * 20


def test_a_peer_that_is_down_is_told_apart(image: Outgoing) -> None:
    port = free_port()
    assert "no association" in str(echo(US, peer(port)))
    (answer,) = store(US, peer(port), [image])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert "no association" in answer.text


def test_a_peer_that_does_not_know_us_says_so(tmp_path: Path, image: Outgoing) -> None:
    port = free_port()
    settings = tmp_path / "dcmqrscp.cfg"
    (tmp_path / "db").mkdir()
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 4\n"
        "HostTable BEGIN\nfriend = (FRIEND, localhost, 1)\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {tmp_path / 'db'} RW (10, 1024mb) friend\nAETable END\n"
    )
    process = subprocess.Popen(
        [program("dcmqrscp"), "-c", str(settings)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for("dcmqrscp", lambda: listens(port))

        def said() -> str:
            (answer,) = store(US, peer(port), [image])
            assert answer.verdict is Verdict.TRY_AGAIN
            # it now and then breaks off the connection that follows the one that looked for it
            return "" if "broke off" in answer.text else answer.text

        text = wait_for("its answer", said)
        assert "reject" in text or "status 0x" in text
    finally:
        process.kill()
        process.wait()


def test_a_folder_is_sent_in_the_syntax_of_its_files(
    orthanc: Orthanc, tmp_path: Path, shared: Path
) -> None:
    found = files_in(shared / "dicom" / "hip_cr")
    assert len(found.files) == 8
    to = CStore(US, peer(orthanc.dicom_port))
    answers = [answer for _, answer in send_files(to, found.files)]
    assert {answer.verdict for answer in answers} == {Verdict.SENT}
    assert len(orthanc.instances()) == 8


def test_a_folder_without_dicom_is_named(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(NodeError, match="holds no DICOM file"):
        files_in(tmp_path)
