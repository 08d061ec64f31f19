"""The demo's PACS: Orthanc when it is installed, else our own receiver as a plain store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.clock import SystemClock
from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.ports import free_port
from dicom_node.receive import Receiver, ReceiverSettings
from dicom_node.store.spool import Spool


@dataclass(frozen=True, slots=True)
class Pacs:
    """A running PACS; `look` tells a person where to look at it."""

    name: str
    ae_title: str
    port: int
    look: str


@contextmanager
def demo_pacs(folder: Path) -> Iterator[Pacs]:
    """Run a PACS that takes everything, on a free loopback port."""
    if Orthanc.program():
        with Orthanc(
            folder, ae_title="PACS", dicom_port=free_port(), http_port=free_port()
        ) as orthanc:
            url = f"http://127.0.0.1:{orthanc.http_port}/app/explorer.html"
            yield Pacs("Orthanc", "PACS", orthanc.dicom_port, url)
        return
    receiver = Receiver(
        ReceiverSettings(ae_titles=("PACS",), promiscuous=True),
        Spool(folder),
        lambda event: None,
        SystemClock(),
    )
    receiver.start()
    try:
        yield Pacs("embedded store", "PACS", receiver.port, f"files in {folder / 'inbox'}")
    finally:
        receiver.stop()
