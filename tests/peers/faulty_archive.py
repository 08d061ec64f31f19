"""An archive with the faults that real ones have: it cuts, ignores keys, breaks off, dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset, FileDataset
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.demo.ports import free_port
from dicom_node.model.peers import Peer


@dataclass
class FaultyArchive:
    """What it has, and what is wrong with it.

    Attributes:
        limit: It gives at most so many matches; `cut_status` ends such a list.
        dies_after: At the sub-operation after so many it aborts the association.
        fails: SOP Instance UIDs that it cannot send.
    """

    images: list[FileDataset]
    limit: int = 10**6
    cut_status: int = 0xA700
    dies_after: int | None = None
    fails: set[str] = field(default_factory=set)
    asked: list[Dataset] = field(default_factory=list)
    port: int = field(default_factory=free_port)

    @property
    def peer(self) -> Peer:
        return Peer(ae_title="FAULTY", host="127.0.0.1", port=self.port)

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        keys = event.identifier
        self.asked.append(keys)
        names = {
            "STUDY": "StudyInstanceUID",
            "SERIES": "SeriesInstanceUID",
            "IMAGE": "SOPInstanceUID",
        }
        name = names[keys.QueryRetrieveLevel]
        found: dict[str, FileDataset] = {}
        for image in self.images:
            if self._matches(image, keys):
                found.setdefault(str(image[name].value), image)
        for uid, image in list(found.items())[: self.limit]:
            answer = Dataset()
            answer.QueryRetrieveLevel = keys.QueryRetrieveLevel
            setattr(answer, name, uid)
            answer.StudyDate = image.StudyDate
            answer.Modality = image.Modality
            # what was not asked for, in another character set: it must not be looked at
            answer.SpecificCharacterSet = "ISO_IR 192"
            answer.PatientName = "Nö^Body"
            yield 0xFF00, answer
        if len(found) > self.limit:
            yield self.cut_status, None

    def _matches(self, image: FileDataset, keys: Dataset) -> bool:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "StudyDate"):
            wanted = keys.get(keyword)
            if wanted and wanted != image.get(keyword):
                return False
        begin, _, last = str(keys.get("StudyTime") or "-").partition("-")
        return (begin or "0") <= str(image.StudyTime) <= (last or "9")

    def get(self, event: evt.Event) -> Iterator[Any]:
        found = [image for image in self.images if self._matches(image, event.identifier)]
        yield len(found)
        for number, image in enumerate(found):
            if number == self.dies_after:
                event.assoc.abort()
                return
            if image.SOPInstanceUID in self.fails:
                broken = Dataset()
                broken.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"  # was not proposed
                broken.SOPInstanceUID = image.SOPInstanceUID
                yield 0xFF00, broken
            else:
                yield 0xFF00, image

    def move(self, event: evt.Event) -> Iterator[Any]:
        yield None, None  # it knows no destination


@contextmanager
def faulty(archive: FaultyArchive, *, offers: str = "find move get") -> Iterator[FaultyArchive]:
    """Run it."""
    ae = AE("FAULTY")
    services = {
        "find": StudyRootQueryRetrieveInformationModelFind,
        "move": StudyRootQueryRetrieveInformationModelMove,
        "get": StudyRootQueryRetrieveInformationModelGet,
    }
    for word in offers.split():
        ae.add_supported_context(services[word])
    for context in StoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, scu_role=True, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", archive.port),
        block=False,
        evt_handlers=[
            (evt.EVT_C_FIND, archive.find),
            (evt.EVT_C_GET, archive.get),
            (evt.EVT_C_MOVE, archive.move),
        ],
    )
    try:
        yield archive
    finally:
        server.shutdown()
