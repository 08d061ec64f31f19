"""Orthanc as the sender: its modality store, and its storage commitment as SCU."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import FileDataset

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.ports import free_port
from tests.factories import radiograph
from tests.integration.test_commitment import TITLE, Site
from tests.peers.ports import wait_for


@dataclass
class Pair:
    orthanc: Orthanc
    site: Site

    def post(self, path: str, body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.orthanc.http_port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
            return json.loads(answer.read())

    def upload(self, *images: FileDataset) -> list[str]:
        return [str(self.post("/instances", encoded(image))["ID"]) for image in images]

    def commit(self, *images: FileDataset) -> dict[str, Any]:
        """Ask as Orthanc does; returns what Orthanc makes of the report."""
        asked = [
            {"SOPClassUID": image.SOPClassUID, "SOPInstanceUID": image.SOPInstanceUID}
            for image in images
        ]
        path = self.post("/modalities/ainode/storage-commitment", {"DicomInstances": asked})["Path"]

        def answered() -> dict[str, Any] | None:
            self.site.work()
            found: dict[str, Any] = self.orthanc.get(path)
            return None if found["Status"] == "Pending" else found

        return wait_for("Orthanc to have the report", answered)


def encoded(image: FileDataset) -> bytes:
    out = BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    dicom_port = free_port()
    site = Site(folder / "node", dicom_port)
    try:
        with Orthanc(
            folder / "orthanc",
            ae_title=TITLE,
            dicom_port=dicom_port,
            http_port=free_port(),
            modalities={"ainode": ("AINODE", "127.0.0.1", site.config.node.port)},
        ) as orthanc:
            yield Pair(orthanc, site)
    finally:
        site.stop()
        site.database.close()


def test_orthanc_echoes_and_sends_what_it_has(pair: Pair) -> None:
    pair.post("/modalities/ainode/echo", {})
    images = [radiograph() for _ in range(3)]
    ids = pair.upload(*images)
    done = pair.post("/modalities/ainode/store", {"Resources": ids, "Synchronous": True})
    assert done["FailedInstancesCount"] == 0
    pair.site.indexer.index_waiting()
    for image in images:
        assert pair.site.file_of(image).exists()


def test_orthanc_is_told_that_its_images_are_kept_and_stores_with_commitment(pair: Pair) -> None:
    images = [radiograph() for _ in range(2)]
    ids = pair.upload(*images)
    pair.post("/modalities/ainode/store", {"Resources": ids, "Synchronous": True})
    found = pair.commit(*images)
    assert found["Status"] == "Success"
    assert {item["SOPInstanceUID"] for item in found["Success"]} == {
        str(image.SOPInstanceUID) for image in images
    }


def test_orthanc_is_told_which_images_are_not_kept(pair: Pair) -> None:
    kept, lost, never = radiograph(), radiograph(), radiograph()
    ids = pair.upload(kept, lost)
    pair.post("/modalities/ainode/store", {"Resources": ids, "Synchronous": True})
    pair.site.indexer.index_waiting()
    pair.site.file_of(lost).unlink()
    found = pair.commit(kept, lost, never)
    assert found["Status"] == "Failure"
    assert [item["SOPInstanceUID"] for item in found["Success"]] == [str(kept.SOPInstanceUID)]
    assert {item["SOPInstanceUID"]: item["FailureReason"] for item in found["Failures"]} == {
        str(lost.SOPInstanceUID): 0x0110,
        str(never.SOPInstanceUID): 0x0112,
    }
