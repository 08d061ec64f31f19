"""Marked patients, what is done to a node with them, and the node that it is done to."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification

from dicom_node.demo.ports import free_port
from tests import factories
from tests.peers import dcmtk
from tests.peers.listening import Hook, Mailbox, SyslogReceiver
from tests.peers.node import Node

MARK = "ZQMARK"
"""Is in every value that tells of a patient, and in no other."""

PATIENT: dict[str, Any] = {
    "PatientName": f"{MARK}NAME^Xenia",
    "PatientID": f"{MARK}ID77",
    "OtherPatientIDs": f"{MARK}OTHER",
    "AccessionNumber": f"{MARK}ACC",
    "ReferringPhysicianName": f"{MARK}PHYSICIAN",
    "PatientComments": f"{MARK}COMMENT",
    "PatientAddress": f"{MARK}STREET",
    "StudyID": f"{MARK}SID",
    "StudyDescription": f"{MARK} knee of Xenia",
    "InstitutionName": f"{MARK}WARD",
    "PatientBirthDate": "19471231",
}


@dataclass(frozen=True)
class Site:
    node: Node
    mail: Mailbox
    hook: Hook
    siem: SyslogReceiver
    repository: SyslogReceiver
    web_port: int
    studies: list[str]

    def page(self, path: str) -> tuple[int, str]:
        """Ask the dashboard, as somebody who has not logged in."""
        address = f"http://127.0.0.1:{self.web_port}{path}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def film(body_part: str, **attributes: Any) -> FileDataset:
    pixels = np.random.default_rng(1).integers(0, 4096, (64, 48)).astype(np.uint16)
    made = factories.radiograph(pixels, **{**PATIENT, **attributes})
    made.BodyPartExamined = body_part
    return made


@contextmanager
def quoting_pacs() -> Iterator[int]:
    """A PACS that refuses every object, and says why by quoting the patient."""
    ae = AE("PACS")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)

    def refuse(event: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status = 0xA900
        answer.ErrorComment = f"{event.dataset.PatientID} is not {event.dataset.PatientName}"[:64]
        return answer

    port = free_port()
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, refuse)]
    )
    try:
        yield port
    finally:
        server.shutdown()


def route(name: str, body_part: str) -> dict[str, Any]:
    when = {"modality": "DX", "body_part": body_part}
    return {"name": name, "when": when, "run": [name], "send_to": ["pacs"]}


def break_things(site: Site, folder: Path) -> list[str]:
    """Send good and bad studies; returns those that must end."""
    node = site.node

    def send(dataset: FileDataset, number: int, *, refused: bool = False) -> str:
        file = folder / f"{number}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        if refused:
            dcmtk.storescu(node.port, [file], "-aec", "AINODE", "-aet", "STORESCU")
        else:
            assert node.send([file]).returncode == 0
        return str(dataset.StudyInstanceUID)

    failing = [send(film("SHOULDER"), number) for number in range(3)]
    good = send(film("KNEE"), 10)
    unwanted = send(film("SKULL", PatientAge=f"{MARK}AGE", PatientWeight="1"), 11)
    # no study UID: refused
    send(film("KNEE", StudyInstanceUID=""), 12, refused=True)
    # two patients in one study: held
    two = generate_uid()
    send(film("KNEE", StudyInstanceUID=two), 13)
    send(film("KNEE", StudyInstanceUID=two, PatientName=f"{MARK}SECOND^Rita"), 14)
    # the same SOP Instance UID with other content: set aside
    again = film("KNEE", PatientName=f"{MARK}THIRD^Rosa")
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = film_sop(folder / "10.dcm")
    send(again, 15)
    # no DICOM at all, and a header that is cut off in the middle of the name
    inbox = node.config.spool_dir / "inbox"
    (inbox / "1.2.3.bad.dcm").write_bytes(f"{MARK} is no DICOM".encode() * 100)
    whole = (folder / "10.dcm").read_bytes()
    (inbox / "1.2.4.bad.dcm").write_bytes(whole[: whole.index(f"{MARK}NAME".encode()) + 9])
    # callers that are not let in
    for _ in range(3):
        dcmtk.echoscu(node.port, "-aec", "AINODE", "-aet", "STRANGER")
    return [*failing, good, unwanted]


def film_sop(file: Path) -> str:
    return str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)
