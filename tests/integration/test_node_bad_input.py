"""Bad input at the whole node: each has a status or a recorded state with its reason and an audit
event, and the node goes on serving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, generate_uid
from sqlalchemy import select

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.routes import ROUTES
from dicom_node.store import audit
from dicom_node.store.tables import AuditEvent
from tests import factories
from tests.peers import dcmtk
from tests.peers.node import Node, running_node, running_pacs, stored
from tests.peers.ports import wait_for
from tests.unit.inference.tiny_bundles import parts, write_bundle

_PATIENT = "Geheim^Patientin"


@dataclass(frozen=True)
class Site:
    node: Node
    pacs: Orthanc


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node with the usual pipelines, and one of the site's own that raises for shoulders."""
    folder = tmp_path_factory.mktemp("bad")
    write_bundle(folder / "own", "raising", inference=parts(locator="quoting_the_patient"))
    routes = (
        *ROUTES,
        {
            "name": "shoulders",
            "when": {"modality": "DX", "body_part": "shoulder"},
            "run": ["raising"],
            "send_to": ["pacs"],
        },
    )
    with (
        running_pacs(folder / "pacs") as pacs,
        running_node(
            folder / "node",
            pacs.dicom_port,
            routes=routes,
            pipelines_path=[str(folder / "own")],
        ) as node,
    ):
        yield Site(node, pacs)


def _events(node: Node, kind: str) -> list[AuditEvent]:
    with node.database.read() as session:
        return list(session.scalars(select(AuditEvent).where(AuditEvent.kind == kind)))


def _kinds_of(node: Node, study_uid: str) -> list[str]:
    with node.database.read() as session:
        return [event.kind for event in audit.events_of(session, study_uid)]


def _film(body_part: str, **attributes: object) -> FileDataset:
    pixels = np.random.default_rng(1).integers(0, 4096, (256, 256)).astype(np.uint16)
    made = factories.radiograph(pixels, **attributes)
    made.BodyPartExamined = body_part
    made.PatientName = _PATIENT
    return made


def _send(site: Site, folder: Path, dataset: FileDataset) -> str:
    file = folder / "sent.dcm"
    dataset.save_as(file, enforce_file_format=True)
    done = site.node.send([file])
    assert done.returncode == 0, done.stdout
    return str(dataset.StudyInstanceUID)


def _still_serves(site: Site) -> None:
    assert dcmtk.echoscu(site.node.port, "-aec", "AINODE", "-aet", "STORESCU").returncode == 0


def test_a_pipeline_that_raises_fails_its_job_and_tells_no_patient_data(
    site: Site, tmp_path: Path
) -> None:
    study = _send(site, tmp_path, _film("SHOULDER"))
    (job,) = site.node.wait_for_studies([study])[study].jobs
    assert job.state == "failed"
    assert job.attempts == site.node.config.inference.attempts
    assert "ValueError" in (job.error or "")
    assert "dicom-node pipelines check raising" in (job.error or "")
    assert "job_failed" in _kinds_of(site.node, study)
    for told in (job.error or "", site.node.log.read_text(), site.node.cli("status").stdout):
        assert "Geheim" not in told
    _still_serves(site)


def test_an_image_without_pixels_is_not_evaluated_and_the_radiologist_is_told(
    site: Site, tmp_path: Path
) -> None:
    film = _film("HIP")
    del film.PixelData
    study = _send(site, tmp_path, film)
    (job,) = site.node.wait_for_studies([study])[study].jobs
    assert job.state == "not_evaluated"
    assert "no pixels" in (job.statement or "")
    assert [i.modality for i in stored(site.pacs) if i.study_uid == study].count("SR") == 1


def test_pixels_that_cannot_be_decoded_are_not_evaluated_with_the_reason(
    site: Site, tmp_path: Path
) -> None:
    film = _film("HIP")
    film.compress(JPEG2000Lossless)
    (frame,) = generate_frames(film.PixelData, number_of_frames=1)
    film.PixelData = encapsulate([frame[:40] + bytes(len(frame) - 40)])
    study = _send(site, tmp_path, film)
    (job,) = site.node.wait_for_studies([study])[study].jobs
    assert job.state == "not_evaluated"
    assert "decode" in (job.statement or "")
    kinds = [item.modality for item in stored(site.pacs) if item.study_uid == study]
    assert kinds.count("SR") == 1


def test_jpeg_extended_of_12_bits_ends_with_an_answer(
    site: Site, shared: Path, tmp_path: Path
) -> None:
    source = dcmread(
        shared / "dicom" / "ct_transfer_syntaxes" / "JPEGProcess2_4_1.2.840.10008.1.2.4.51.dcm"
    )
    source.BodyPartExamined = "ABDOMEN"
    source.StudyInstanceUID = generate_uid()
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    study = _send(site, tmp_path, source)
    (job,) = site.node.wait_for_studies([study])[study].jobs
    assert job.state == "not_evaluated"
    assert job.statement


def test_an_empty_study_uid_is_refused_with_the_reason(site: Site, tmp_path: Path) -> None:
    film = _film("HIP", StudyInstanceUID="")
    film.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    done = dcmtk.storescu(
        site.node.port, [tmp_path / "film.dcm"], "-aec", "AINODE", "-aet", "STORESCU"
    )
    assert "CannotUnderstand" in done.stdout + done.stderr
    event = _events(site.node, "instance_refused")[-1]
    assert event.data["sop_instance_uid"] == film.SOPInstanceUID
    assert "StudyInstanceUID is missing or empty" in event.data["reason"]
    assert event.data["status"] == 0xC000
    _still_serves(site)


def test_a_wrong_called_title_and_an_unknown_caller_are_rejected_and_audited(site: Site) -> None:
    before = len(_events(site.node, "association_rejected"))
    wrong = dcmtk.echoscu(site.node.port, "-aec", "OTHER", "-aet", "STORESCU")
    stranger = dcmtk.echoscu(site.node.port, "-aec", "AINODE", "-aet", "STRANGER")
    assert wrong.returncode != 0
    assert stranger.returncode != 0
    reasons = wait_for(
        "two audit events",
        lambda: (
            found
            if len(found := _events(site.node, "association_rejected")[before:]) == 2
            else None
        ),
    )
    assert reasons[0].data["called_ae"] == "OTHER"
    assert reasons[1].peer == "STRANGER"


def test_a_pacs_that_is_down_gets_everything_when_it_is_back(site: Site, tmp_path: Path) -> None:
    site.pacs.stop()
    try:
        study = _send(site, tmp_path, _film("HIP"))

        def waits() -> bool:
            line = site.node.studies().get(study)
            return bool(
                line
                and line.jobs
                and line.jobs[0].deliveries
                and all(d.state == "pending" and d.attempts for d in line.jobs[0].deliveries)
            )

        wait_for("deliveries that wait for the PACS", waits)
        told = site.node.cli("status", "--json").stdout
        assert "pending" in told
        assert "no association" in told
    finally:
        site.pacs.start()
    line = site.node.wait_for_studies([study])[study]
    assert {d.state for job in line.jobs for d in job.deliveries} == {"sent"}
    kinds = sorted(item.modality for item in stored(site.pacs) if item.study_uid == study)
    assert kinds == ["OT", "PR", "SR"]


def test_status_and_jobs_tell_what_happened(site: Site) -> None:
    """After all of the above the night shift looks at it."""
    status = site.node.cli("status")
    assert status.returncode == 0, status.stderr
    failed = site.node.cli("jobs", "--state", "failed")
    assert failed.returncode == 0, failed.stderr
    assert "raising" in failed.stdout
