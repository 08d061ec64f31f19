"""Archives to ask and to pull from: Orthanc and dcmqrscp, each with studies, and our receiver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig
from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.ports import free_port
from dicom_node.model.peers import Peer
from dicom_node.receive import Receiver
from dicom_node.serve.receiving import receiver_settings
from dicom_node.store.spool import Spool
from tests.peers.dcmqrscp import Dcmqrscp
from tests.peers.dcmtk import dcmsend

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass
class RunningArchive:
    """A peer with query/retrieve; `counts`: it says how many images it has."""

    kind: str
    peer: Peer
    url: str = ""

    @property
    def counts(self) -> bool:
        return self.kind == "orthanc"

    def put(self, folder: Path, images: Sequence[FileDataset]) -> list[Path]:
        """Store images in it; returns their files."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for image in images:
            file = folder / f"{image.SOPInstanceUID}.dcm"
            image.save_as(file, enforce_file_format=True)
            files.append(file)
        done = dcmsend(self.peer.port, files, "-aec", self.peer.ae_title, "-aet", "XRAY")
        assert done.returncode == 0, done.stderr[-2000:]
        return files


@contextmanager
def orthanc(folder: Path, our_port: int, dicom_port: int = 0) -> Iterator[RunningArchive]:
    """Orthanc that knows us, with DICOMweb."""
    with Orthanc(
        folder,
        ae_title="PACS",
        dicom_port=dicom_port or free_port(),
        http_port=free_port(),
        modalities={"ainode": ("AINODE", "127.0.0.1", our_port)},
        plugins=(DICOMWEB,),
        settings={"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True},
    ) as running:
        peer = Peer(ae_title="PACS", host="127.0.0.1", port=running.dicom_port)
        url = f"http://127.0.0.1:{running.http_port}/dicom-web"
        yield RunningArchive("orthanc", peer, url)


@contextmanager
def dcmqrscp(folder: Path, our_port: int) -> Iterator[RunningArchive]:
    """dcmqrscp that knows us."""
    with Dcmqrscp(folder, {"ainode": ("AINODE", our_port)}) as running:
        peer = Peer(ae_title=running.ae_title, host="127.0.0.1", port=running.port)
        yield RunningArchive("dcmqrscp", peer)


ARCHIVES = {"orthanc": orthanc, "dcmqrscp": dcmqrscp}


@contextmanager
def receiving(config: NodeConfig) -> Iterator[Spool]:
    """Our receiver; what it took lies in the spool's inbox."""
    spool = Spool(config.spool_dir)
    receiver = Receiver(receiver_settings(config), spool, lambda event: None, SystemClock())
    receiver.start()
    try:
        yield spool
    finally:
        receiver.stop()


def taken(spool: Spool) -> dict[str, FileDataset]:
    """What lies in the inbox, by SOP Instance UID."""
    return {str(image.SOPInstanceUID): image for image in map(dcmread, spool.waiting())}
