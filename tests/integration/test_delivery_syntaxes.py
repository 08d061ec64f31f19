"""The transfer syntax of each object is negotiated; its pixels arrive as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF

from dicom_node.delivery import CStore, Outgoing, Verdict
from dicom_node.demo.ports import free_port
from dicom_node.model.peers import Peer
from tests.factories import radiograph
from tests.peers.calling import US
from tests.peers.dcmtk import running_storescp


def film(tmp_path: Path, number: int = 0) -> FileDataset:
    pixels = np.random.default_rng(number).integers(0, 4096, (64, 48), dtype=np.uint16)
    return radiograph(pixels, PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100")


def outgoing(dataset: FileDataset, folder: Path, number: int = 1) -> Outgoing:
    file = folder / f"{number}.dcm"
    dataset.save_as(file, enforce_file_format=True)
    return Outgoing(number, file, str(dataset.SOPClassUID))


def compressed(dataset: FileDataset, syntax: str) -> FileDataset:
    if syntax == ExplicitVRLittleEndian:
        return dataset
    if syntax == JPEGLosslessSV1:
        import subprocess
        import tempfile

        from tests.peers.dcmtk import program

        with tempfile.TemporaryDirectory() as folder:
            plain, coded = Path(folder, "plain.dcm"), Path(folder, "coded.dcm")
            dataset.save_as(plain, enforce_file_format=True)
            command = [program("dcmcjpeg"), "+e1", "+un", str(plain), str(coded)]
            subprocess.run(command, check=True, timeout=60)
            read = dcmread(coded)
            read.PixelData  # noqa: B018 - it is read before the folder goes
            return read
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
        return dataset
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


SYNTAXES = [
    ExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    DeflatedExplicitVRLittleEndian,
]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_a_peer_that_takes_only_implicit_vr_gets_the_same_pixels(
    tmp_path: Path, syntax: str
) -> None:
    original = film(tmp_path)
    pixels = original.pixel_array.copy()
    item = outgoing(compressed(original, syntax), tmp_path)
    before = hashlib.sha256(item.file.read_bytes()).hexdigest()
    port = free_port()
    with running_storescp(tmp_path / "pacs", port, "+xi", "+B") as folder:
        (answer,) = CStore(US, Peer(ae_title="PACS", host="127.0.0.1", port=port)).send([item])
        assert answer.verdict is Verdict.SENT, answer
        (file,) = folder.iterdir()
        came = dcmread(file)
    assert came.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert np.array_equal(came.pixel_array, pixels)
    assert came.SOPInstanceUID == original.SOPInstanceUID
    assert came.PatientName == "Müller^Änne"
    assert hashlib.sha256(item.file.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("syntax", SYNTAXES[:4], ids=lambda uid: uid.name)
def test_a_peer_that_takes_everything_gets_the_syntax_of_the_file(
    tmp_path: Path, syntax: str
) -> None:
    item = outgoing(compressed(film(tmp_path), syntax), tmp_path)
    port = free_port()
    with running_storescp(tmp_path / "pacs", port, "+xa", "+B") as folder:
        (answer,) = CStore(US, Peer(ae_title="PACS", host="127.0.0.1", port=port)).send([item])
        assert answer.verdict is Verdict.SENT, answer
        (file,) = folder.iterdir()
        came, sent = dcmread(file), dcmread(item.file)
    assert came.file_meta.TransferSyntaxUID == syntax
    assert came.PixelData == sent.PixelData


Handler = Callable[[Any], int]


@contextmanager
def scp(
    store: Handler, seen: list[Any], max_pdu: int = 16382, syntaxes: Any = None
) -> Iterator[Peer]:
    """A pynetdicom PACS that takes DX images; `seen` gets every PDU that comes."""
    ae = AE("PACS")
    ae.maximum_pdu_size = max_pdu
    ae.add_supported_context(
        "1.2.840.10008.5.1.4.1.1.1.1", syntaxes or [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    )
    handlers: Any = [
        (evt.EVT_C_STORE, store),
        (evt.EVT_PDU_RECV, lambda event: seen.append(event.pdu)),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield Peer(ae_title="PACS", host="127.0.0.1", port=int(server.server_address[1]))
    finally:
        server.shutdown()


def test_one_association_with_only_the_classes_at_hand_carries_a_study_s_objects(
    tmp_path: Path,
) -> None:
    items = [outgoing(film(tmp_path, n), tmp_path, n) for n in range(1, 6)]
    seen: list[Any] = []
    with scp(lambda _: 0x0000, seen) as peer:
        answers = list(CStore(US, peer).send(items))
    assert {answer.verdict for answer in answers} == {Verdict.SENT}
    requests = [pdu for pdu in seen if isinstance(pdu, A_ASSOCIATE_RQ)]
    assert len(requests) == 1
    (context,) = requests[0].presentation_context
    assert context.abstract_syntax == "1.2.840.10008.5.1.4.1.1.1.1"
    assert context.transfer_syntax == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def test_no_pdu_is_longer_than_the_peer_takes(tmp_path: Path) -> None:
    dataset = radiograph(np.zeros((600, 500), np.uint16))
    seen: list[Any] = []
    with scp(lambda _: 0x0000, seen, max_pdu=4096) as peer:
        (answer,) = CStore(US, peer).send([outgoing(dataset, tmp_path)])
    assert answer.verdict is Verdict.SENT
    lengths = [pdu.pdu_length for pdu in seen if isinstance(pdu, P_DATA_TF)]
    assert len(lengths) > 100
    assert max(lengths) <= 4096


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.SENT),
        (0xB000, Verdict.SENT),
        (0xB006, Verdict.SENT),
        (0xB007, Verdict.SENT),
        (0x0107, Verdict.TRY_AGAIN),
        (0xB001, Verdict.TRY_AGAIN),
        (0xA700, Verdict.TRY_AGAIN),
        (0xC000, Verdict.TRY_AGAIN),
        (0x0122, Verdict.TRY_AGAIN),
        (0xA900, Verdict.NEVER),
    ],
)
def test_sent_is_only_what_the_peer_says_it_has(
    tmp_path: Path, status: int, verdict: Verdict
) -> None:
    with scp(lambda _: status, []) as peer:
        (answer,) = CStore(US, peer).send([outgoing(film(tmp_path), tmp_path)])
    assert answer.verdict is verdict
    assert f"0x{status:04X}" in answer.text


def test_a_video_that_cannot_be_decoded_is_not_sent_and_the_others_are(tmp_path: Path) -> None:
    video = film(tmp_path)
    video.file_meta.TransferSyntaxUID = MPEG2MPML
    video.PixelData = encapsulate([b"\0\0\x01\xb3" + bytes(64)])
    items = [outgoing(video, tmp_path, 1), outgoing(film(tmp_path, 2), tmp_path, 2)]
    with scp(lambda _: 0x0000, []) as peer:
        answers = {answer.id: answer for answer in CStore(US, peer).send(items)}
    assert answers[1].verdict is Verdict.TRY_AGAIN
    assert "cannot be decompressed" in answers[1].text
    assert answers[2].verdict is Verdict.SENT


def test_a_damaged_file_and_one_that_is_gone_hold_up_no_other(tmp_path: Path) -> None:
    good = outgoing(film(tmp_path), tmp_path, 1)
    damaged = outgoing(film(tmp_path), tmp_path, 2)
    damaged.file.write_bytes(damaged.file.read_bytes()[:200])
    gone = Outgoing(3, tmp_path / "gone.dcm", good.sop_class_uid)
    with scp(lambda _: 0x0000, []) as peer:
        answers = {item.id: item.verdict for item in CStore(US, peer).send([damaged, gone, good])}
    assert answers == {1: Verdict.SENT, 2: Verdict.TRY_AGAIN, 3: Verdict.NEVER}


def test_more_classes_than_one_association_may_propose_take_two(tmp_path: Path) -> None:
    items = []
    for number in range(1, 151):
        dataset = film(tmp_path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = f"1.2.3.4.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        items.append(outgoing(dataset, tmp_path, number))
    items.append(outgoing(film(tmp_path), tmp_path, 151))
    seen: list[Any] = []
    with scp(lambda _: 0x0000, seen) as peer:
        answers = list(CStore(US, peer).send(items))
    assert [answer.id for answer in answers if answer.verdict is Verdict.SENT] == [151]
    assert len([pdu for pdu in seen if isinstance(pdu, A_ASSOCIATE_RQ)]) == 2


def test_an_object_on_which_the_peer_breaks_off_holds_up_no_other(tmp_path: Path) -> None:
    items = [outgoing(film(tmp_path, n), tmp_path, n) for n in range(1, 4)]
    poison = str(dcmread(items[0].file).SOPInstanceUID)
    seen: list[Any] = []

    def store(event: Any) -> int | Dataset:
        if event.request.AffectedSOPInstanceUID == poison:
            event.assoc.abort()
        return 0x0000

    with scp(store, seen) as peer:
        answers = list(CStore(US, peer).send(items))
    verdicts = [answer.verdict for answer in answers]
    assert verdicts == [Verdict.TRY_AGAIN, Verdict.SENT, Verdict.SENT], answers
    assert len([pdu for pdu in seen if isinstance(pdu, A_ASSOCIATE_RQ)]) == 2
