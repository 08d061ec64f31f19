"""What a reader sees of our results: OHIF in Chromium, and Orthanc's own pictures.

Set DICOM_NODE_SCREENSHOTS to a folder to keep what the tests saw.
"""

from __future__ import annotations

import io
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser
from pydicom import Dataset, dcmread

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.phantom_studies import write_study
from dicom_node.demo.routes import ROUTES
from dicom_node.demo.studies import DemoStudy, hip, knee, spine
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.report import build_report
from tests.integration import results_matrix as matrix
from tests.integration.conftest import DICOMWEB
from tests.peers.dcmtk import dcmsend
from tests.peers.node import running_node, running_pacs, stored
from tests.peers.ohif import serving_ohif
from tests.peers.ohif_page import Viewer, running_chromium
from tests.unit.results import samples

_MODALITIES = {
    "knee radiograph": {"DX", "SR", "OT", "PR"},
    "hip radiograph": {"DX", "SR", "OT", "PR"},
    "abdominal CT": {"CT", "SR", "OT", "SEG", "PR", "KO"},
}
_REPORTED = {
    "knee radiograph": (
        r"Kellgren-Lawrence grade: Kellgren-Lawrence grade 4 \(severe\)",
        r"Probability: [\d.]+ % \(Kellgren-Lawrence grade 3 \(moderate\)\)",
        "Tracking Identifier: right knee",
    ),
    "hip radiograph": (
        "Internal fixation device of hip: Sliding hip screw with side plate",
        "Tracking Identifier: left hip",
    ),
    "abdominal CT": (
        r"Trabecular bone mineral density: [\d.]+ mg/cm3",
        r"Attenuation Coefficient: [\d.]+ HU \(Mean\)",
        "Tracking Identifier: L1-L4",
    ),
}
"""Lines of the report that OHIF must show, as regular expressions."""


@dataclass(frozen=True)
class ReadingRoom:
    """Three processed studies in two archives, each with OHIF before it.

    Attributes:
        texts: The archive that gets Basic Text SR, and OHIF's address there.
        reports: The archive that gets Comprehensive SR, and OHIF's address there.
    """

    studies: dict[str, DemoStudy]
    texts: tuple[Orthanc, str]
    reports: tuple[Orthanc, str]
    browser: Browser

    def result(self, name: str, modality: str) -> Dataset:
        """The one object of a modality that the node has sent for a study."""
        pacs = self.texts[0]
        uid = self.studies[name].study_uid
        (item,) = [i for i in stored(pacs) if (i.study_uid, i.modality) == (uid, modality)]
        return dcmread(io.BytesIO(pacs.file(item.orthanc_id)))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadingRoom]:
    folder = tmp_path_factory.mktemp("room")
    studies = [knee(), hip(), spine()]
    for study in studies:
        write_study(study.instances, folder / "sent")
    files = sorted((folder / "sent").iterdir())
    with (
        running_pacs(folder / "texts", plugins=(DICOMWEB,)) as texts,
        running_pacs(folder / "reports", plugins=(DICOMWEB,)) as reports,
    ):
        peers = {
            "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": reports.dicom_port},
            "ohif": {"ae_title": "PACS", "host": "127.0.0.1", "port": texts.dicom_port}
            | {"sr_classes": ["basic_text"]},
            "xray": {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 104},
        }
        routes = [{**route, "send_to": ["pacs", "ohif"]} for route in ROUTES]
        for pacs in (texts, reports):
            assert dcmsend(pacs.dicom_port, files, "-aec", "PACS").returncode == 0
        with running_node(folder / "node", reports.dicom_port, routes=routes, peers=peers) as node:
            assert node.send(files).returncode == 0
            node.wait_for_studies([study.study_uid for study in studies], 240)
        with (
            serving_ohif(texts.http_port) as at_texts,
            serving_ohif(reports.http_port) as at_reports,
            running_chromium() as browser,
        ):
            by_name = {study.name: study for study in studies}
            yield ReadingRoom(by_name, (texts, at_texts), (reports, at_reports), browser)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return Path(os.environ.get("DICOM_NODE_SCREENSHOTS") or tmp_path)


def _open(room: ReadingRoom, address: str, study_uid: str) -> Viewer:
    page = room.browser.new_page(viewport={"width": 1600, "height": 1000})
    return Viewer(page, address, study_uid)


@pytest.mark.parametrize("name", list(_MODALITIES))
def test_ohif_shows_the_picture_and_the_report(room: ReadingRoom, shots: Path, name: str) -> None:
    viewer = _open(room, room.texts[1], room.studies[name].study_uid)
    listed = {item.modality: item for item in viewer.series()}
    assert set(listed) == _MODALITIES[name]
    assert all("research only" in listed[modality].description for modality in ("SR", "OT"))

    viewer.show("OT")
    viewer.wait_for_picture(room.result(name, "OT").pixel_array)
    viewer.screenshot(shots / f"ohif {name} picture.png")

    viewer.show("SR")
    viewer.wait_for_words("Diagnostic Imaging Report")
    statement = next(
        item.TextValue
        for item in room.result(name, "SR").ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121071"
    )
    assert room.studies[name].statement_has in statement
    viewer.wait_for_words(statement)
    words = viewer.words()
    assert "AI result - research use only - not for diagnosis" in words
    for line in _REPORTED[name]:
        viewer.wait_for_line(line)
    viewer.screenshot(shots / f"ohif {name} report.png")
    viewer.page.close()


def test_ohif_lays_the_segmentation_over_the_ct(room: ReadingRoom, shots: Path) -> None:
    viewer = _open(room, room.texts[1], room.studies["abdominal CT"].study_uid)
    viewer.show("SEG")
    assert viewer.accept_segmentation() == ["L1", "L2", "L3", "L4"]
    # the first segment's colour, that of our pictures, over grey
    viewer.wait_for_colour((86, 180, 233))
    viewer.screenshot(shots / "ohif segmentation.png")
    viewer.page.close()


def test_ohif_marks_presentation_states_and_key_objects_as_unsupported(
    room: ReadingRoom,
) -> None:
    """When this fails, OHIF has learnt them: docs/results.md says that it has not."""
    viewer = _open(room, room.texts[1], room.studies["abdominal CT"].study_uid)
    assert {item.modality for item in viewer.series() if not item.shown} == {"PR", "KO"}
    viewer.page.close()


def test_ohif_fails_at_a_measurement_report_without_coordinates(
    room: ReadingRoom, shots: Path
) -> None:
    """OHIF 3.12; why docs/results.md advises `sr_classes`. When this fails, change that advice."""
    viewer = _open(room, room.reports[1], room.studies["knee radiograph"].study_uid)
    assert any(item.modality == "SR" and item.shown for item in viewer.series())
    viewer.show("SR")
    viewer.page.get_by_text("Something went wrong").first.wait_for()
    viewer.screenshot(shots / "ohif measurement report.png")
    viewer.page.close()


def test_ohif_opens_the_pdf_and_knows_the_parametric_map(
    room: ReadingRoom, shots: Path, tmp_path: Path
) -> None:
    headers = samples.ct_series()
    findings = samples.vertebrae(headers)
    subject = findings.items[0].subject
    saliency = replace(
        samples.grad_cam(samples.one_knee(headers[0]), (64, 64)),
        subject=subject,
        image=subject.images[1],
    )
    findings = replace(findings, items=(*findings.items, saliency))
    wanted = {"objects": [ResultObject.PARAMETRIC_MAP, ResultObject.PDF]}
    spec = matrix.spec_of("lumbar_bmd_ct").model_copy(update=wanted)
    report = build_report(findings, headers, matrix.pictures(headers), spec)
    write_study(headers, tmp_path / "sent")
    for number, item in enumerate(report.objects):
        (tmp_path / "sent" / f"made{number}.dcm").write_bytes(item.encoded)
    pacs, address = room.texts
    done = dcmsend(pacs.dicom_port, sorted((tmp_path / "sent").iterdir()), "-aec", "PACS")
    assert done.returncode == 0, done.stdout

    viewer = _open(room, address, str(headers[0].StudyInstanceUID))
    listed = {item.modality: item.shown for item in viewer.series()}
    assert listed["PMAP"], "the parametric map is not taken for one"
    viewer.show("DOC")
    assert viewer.pdf() == report.objects[-1].dataset.EncapsulatedDocument
    viewer.screenshot(shots / "ohif pdf.png")
    viewer.page.close()


@pytest.mark.parametrize("name", list(_MODALITIES))
def test_orthanc_renders_our_pictures_as_they_are(room: ReadingRoom, name: str) -> None:
    made = room.result(name, "OT")
    pacs = room.texts[0]
    (item,) = [i for i in stored(pacs) if i.sop_instance_uid == made.SOPInstanceUID]
    preview = _image(f"http://127.0.0.1:{pacs.http_port}/instances/{item.orthanc_id}/preview")
    np.testing.assert_array_equal(preview, made.pixel_array)
    rendered = _image(
        f"http://127.0.0.1:{pacs.http_port}/dicom-web/studies/{made.StudyInstanceUID}"
        f"/series/{made.SeriesInstanceUID}/instances/{made.SOPInstanceUID}/rendered"
    )
    assert rendered.shape == made.pixel_array.shape
    np.testing.assert_allclose(rendered.mean((0, 1)), made.pixel_array.mean((0, 1)), atol=1)


def _image(url: str) -> np.ndarray:
    request = urllib.request.Request(url, headers={"Accept": "image/png"})
    with urllib.request.urlopen(request, timeout=60) as answer, Image.open(answer) as image:
        return np.asarray(image.convert("RGB"))
