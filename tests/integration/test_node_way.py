"""The whole way of a study: DCMTK sends, the node decides and reads, Orthanc gets the results."""

from __future__ import annotations

import io
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from dicom_node.demo.phantom_studies import write_study
from dicom_node.demo.studies import DemoStudy, hip, knee, spine, step_wedge
from dicom_node.results.text import report_text
from tests.integration.conftest import Site
from tests.peers.dcmtk import run_tool
from tests.peers.node import Stored, stored
from tests.peers.ports import wait_for

_LOSSLESS = ("UNC", "RLE", "JPLL", "J2KR", "JLSL")
_LOSSY = ("J2KI", "JLSN", "JPLY")
_SENT = {
    "knee_kl_ensemble": {"SR", "OT", "PR"},
    "hip_fixation_device": {"SR", "OT", "PR"},
    "lumbar_bmd_ct": {"SR", "OT", "SEG", "PR", "KO"},
}
"""Modalities of the results that each pipeline asks for."""


def _as_new_study(file: Path, folder: Path) -> FileDataset:
    """Copy a file with new UIDs, so that it is a study of its own; its pixels stay encoded."""
    dataset = dcmread(file)
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.save_as(folder / file.name, enforce_file_format=True)
    return dataset


def _results(site: Site, study_uid: str) -> dict[str, tuple[Stored, FileDataset]]:
    """Return the result objects of a study in the PACS by modality; each kind once."""
    found = [item for item in stored(site.pacs) if item.study_uid == study_uid]
    objects = {
        item.modality: (item, dcmread(io.BytesIO(site.pacs.file(item.orthanc_id))))
        for item in found
    }
    assert len(objects) == len(found), f"an object came twice: {found}"
    return objects


def test_each_pipeline_passes_its_self_test_when_the_node_starts(site: Site) -> None:
    def passed() -> set[str]:
        lines = (
            json.loads(line) for line in site.node.log.read_text().splitlines() if line[:1] == "{"
        )
        return {line["pipeline"] for line in lines if line["event"] == "selftest_passed"}

    wait_for("the self-tests", lambda: passed() == set(_SENT), 120)
    assert json.loads(site.node.cli("status", "--json").stdout)["disabled"] == {}


@pytest.fixture(scope="module")
def hips(
    site: Site, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, FileDataset]:
    """The eight hip files, each sent as a study of its own, read to the end."""
    folder = tmp_path_factory.mktemp("hips")
    sent = {
        file.stem.removeprefix("RG2_"): _as_new_study(file, folder)
        for file in sorted((shared / "dicom" / "hip_cr").glob("RG2_*.dcm"))
    }
    assert set(sent) == {*_LOSSLESS, *_LOSSY}
    done = site.node.send(sorted(folder.glob("*.dcm")))
    assert done.returncode == 0, done.stdout + done.stderr
    site.node.wait_for_studies(str(item.StudyInstanceUID) for item in sent.values())
    return sent


def test_every_hip_file_is_routed_and_its_report_and_overlay_reach_the_pacs(
    site: Site, hips: dict[str, FileDataset]
) -> None:
    lines = site.node.studies()
    for syntax, source in hips.items():
        (job,) = lines[str(source.StudyInstanceUID)].jobs
        assert job.pipeline == "hip_fixation_device", syntax
        assert job.state in ("done", "not_evaluated"), (syntax, job.error)
        results = _results(site, str(source.StudyInstanceUID))
        assert set(results) == _SENT["hip_fixation_device"], syntax
        for _, made in results.values():
            assert made.PatientID == source.PatientID
            assert made.SeriesInstanceUID != source.SeriesInstanceUID


def test_lossless_syntaxes_give_the_same_findings_and_the_same_picture(
    site: Site, hips: dict[str, FileDataset]
) -> None:
    texts, pictures = {}, {}
    for syntax in _LOSSLESS:
        results = _results(site, str(hips[syntax].StudyInstanceUID))
        lines = report_text(results["SR"][1]).splitlines()
        texts[syntax] = [line for line in lines if "device 2.25." not in line]
        pictures[syntax] = results["OT"][1].pixel_array
    first = _LOSSLESS[0]
    for syntax in _LOSSLESS[1:]:
        assert texts[syntax] == texts[first], syntax
        np.testing.assert_array_equal(pictures[syntax], pictures[first], err_msg=syntax)


def test_results_are_found_and_fetched_by_dicomweb(
    site: Site, hips: dict[str, FileDataset]
) -> None:
    study = str(hips["UNC"].StudyInstanceUID)
    root = f"http://127.0.0.1:{site.pacs.http_port}/dicom-web/studies/{study}"
    with urllib.request.urlopen(f"{root}/series", timeout=30) as answer:
        series = json.loads(answer.read())
    assert {item["00080060"]["Value"][0] for item in series} == _SENT["hip_fixation_device"]
    assert len(series) == len(_SENT["hip_fixation_device"])
    uid = next(i["0020000E"]["Value"][0] for i in series if i["00080060"]["Value"] == ["SR"])
    with urllib.request.urlopen(f"{root}/series/{uid}/metadata", timeout=30) as answer:
        (report,) = json.loads(answer.read())
    assert report["0040A493"]["Value"] == ["UNVERIFIED"]


def test_a_study_of_several_films_gets_one_report(site: Site, shared: Path) -> None:
    files = [
        file
        for file in sorted((shared / "dicom" / "hip_cr").glob("RG2_*.dcm"))
        if file.stem != "RG2_RLE"
    ]
    study = str(dcmread(files[0], specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
    assert site.node.send(files).returncode == 0
    lines = site.node.wait_for_studies([study])
    assert lines[study].instances == len(files)
    assert len(lines[study].jobs) == 1
    kinds = sorted(item.modality for item in stored(site.pacs) if item.study_uid == study)
    assert kinds.count("SR") == 1
    assert "OT" in kinds


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("knee_mr/MR3_J2KR.dcm", "MR"),
        ("mixed/RG1_chest_cr_J2KI.dcm", "CHEST"),
        ("extremity_cr/RG3_UNC.dcm", "EXTREMITY"),
        ("mixed/no-pixel-data.dcm", "no image"),
    ],
)
def test_what_no_route_wants_is_recorded_with_the_reason_and_nothing_is_sent(
    site: Site, shared: Path, tmp_path: Path, name: str, reason: str
) -> None:
    source = _as_new_study(shared / "dicom" / name, tmp_path)
    study = str(source.StudyInstanceUID)
    (file,) = tmp_path.glob("*.dcm")
    assert site.node.send([file]).returncode == 0
    line = site.node.wait_for_studies([study])[study]
    assert line.jobs == ()
    assert line.unrouted_reason is not None
    assert reason in line.unrouted_reason
    assert [item for item in stored(site.pacs) if item.study_uid == study] == []
    explained = site.node.cli("route", "--explain", str(file))
    assert explained.returncode == 0, explained.stderr
    assert "no pipeline" in explained.stdout
    assert reason in explained.stdout


@pytest.mark.parametrize("study", [knee(), hip(), spine()], ids=lambda study: study.name)
def test_the_finding_put_into_a_phantom_comes_out(
    site: Site, tmp_path: Path, study: DemoStudy
) -> None:
    write_study(study.instances, tmp_path)
    assert site.node.send(sorted(tmp_path.glob("*.dcm"))).returncode == 0
    line = site.node.wait_for_studies([study.study_uid])[study.study_uid]
    (job,) = line.jobs
    assert (job.pipeline, job.state) == (study.pipelines[0], "done"), job.error
    assert study.statement_has in (job.statement or "")
    results = _results(site, study.study_uid)
    assert set(results) == _SENT[job.pipeline]
    patient = study.instances[0]
    for _, made in results.values():
        assert (made.PatientID, made.PatientName) == (patient.PatientID, patient.PatientName)


def test_a_late_image_reopens_the_study_and_the_new_report_replaces_nothing(
    site: Site, tmp_path: Path
) -> None:
    study = hip()
    first = study.instances[0]
    uid = first.StudyInstanceUID = generate_uid()
    first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    write_study([first], tmp_path / "first")
    assert site.node.send((tmp_path / "first").iterdir()).returncode == 0
    site.node.wait_for_studies([uid])
    first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    write_study([first], tmp_path / "late")
    assert site.node.send((tmp_path / "late").iterdir()).returncode == 0

    wait_for("the late image", lambda: site.node.studies()[uid].instances == 2)
    line = site.node.wait_for_studies([uid])[uid]
    kinds = [item.modality for item in stored(site.pacs) if item.study_uid == uid]
    assert kinds.count("SR") == len(line.jobs)


def test_our_own_output_is_never_analysed(site: Site, tmp_path: Path) -> None:
    """A PACS that forwards everything sends our reports back to us."""
    study = step_wedge()
    source = study.instances[0]
    source.BodyPartExamined = "HIP"
    source.ViewPosition = "AP"
    uid = source.StudyInstanceUID = generate_uid()
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    write_study([source], tmp_path / "sent")
    assert site.node.send((tmp_path / "sent").iterdir()).returncode == 0
    before = site.node.wait_for_studies([uid])[uid]
    assert len(before.jobs) == 1
    for number, (item, _) in enumerate(_results(site, uid).values()):
        (tmp_path / f"back{number}.dcm").write_bytes(site.pacs.file(item.orthanc_id))
    back = sorted(tmp_path.glob("back*.dcm"))
    assert site.node.send(back).returncode == 0

    def all_in() -> bool:
        return site.node.studies()[uid].instances == 1 + len(back)

    wait_for("our own objects in the index", all_in)
    after = site.node.wait_for_studies([uid])[uid]
    assert [job.id for job in after.jobs] == [job.id for job in before.jobs]
    assert len(_results(site, uid)) == len(back)


def test_every_result_in_the_pacs_passes_the_validators(site: Site, tmp_path: Path) -> None:
    """Runs last: looks at all that the tests above have made."""
    results = [item for item in stored(site.pacs) if item.modality in ("SR", "OT")]
    assert len(results) >= 2
    for item in results:
        file = tmp_path / f"{item.sop_instance_uid}.dcm"
        file.write_bytes(site.pacs.file(item.orthanc_id))
        checked = run_tool("dciodvfy", "-new", str(file))
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], (item.modality, errors)
        if item.modality == "SR":
            dumped = run_tool("dsrdump", str(file))
            assert dumped.returncode == 0, dumped.stderr
            assert "Imaging Measurement Report" in dumped.stdout
