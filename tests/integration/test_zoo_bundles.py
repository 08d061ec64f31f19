"""Four bundles of the Model Zoo's layout, from their folders to reports in a PACS.

With `dicom-node pipelines add`, a dicom.yaml that is filled in, and trust where code is; nothing
else of the bundles is changed. The studies are sent by DCMTK to a real node; Orthanc is the PACS.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from dicom_node.demo.orthanc import Orthanc
from dicom_node.demo.phantom_studies import radiograph_study, write_study
from tests.peers.dcmtk import run_tool
from tests.peers.node import Node, running_node, running_pacs, stored
from tests.unit.cli.command import dicom_node
from tests.unit.inference import zoo_bundles as zoo
from tests.unit.inference.ct_phantoms import Phantom, cuboid, phantom, sphere

TRUSTED = ("nodule_ct_detection", "brightness_regression")
SENT = {
    "sphere_ct_segmentation": ["OT", "SEG", "SR"],
    "density_classification": ["OT", "SR"],
    "nodule_ct_detection": ["OT", "PR", "SR"],
    "brightness_regression": ["OT", "SR"],
}
SPHERE = phantom(sphere(17, (9, -6, 5)), "ZOO-SPHERE", tilt=15.0, reversed_numbers=True)
NODULE = phantom(
    cuboid((8, 8, 8), (2, -6, 2)),
    "ZOO-NODULE",
    shape=(64, 64, 32),
    spacing=(1.0, 1.0, 2.0),
    hu=(290, -900),
)


def _film(pixels: np.ndarray, key: str) -> list[FileDataset]:
    return radiograph_study(
        pixels.astype(np.uint16), 0.2, key=key, body_part="KNEE", description=key
    )


def _grey() -> np.ndarray:
    pixels = np.full((256, 256), 512)
    pixels[:128] = 1536
    return pixels


STUDIES: Mapping[str, Sequence[FileDataset]] = {
    "sphere_ct_segmentation": SPHERE.slices,
    "density_classification": _film((zoo.disc(256, True) * 4000).numpy(), "ZOO-DISC"),
    "nodule_ct_detection": NODULE.slices,
    "brightness_regression": _film(_grey(), "ZOO-GREY"),
}


@dataclass(frozen=True)
class ZooSite:
    node: Node
    pacs: Orthanc
    results: Mapping[str, Mapping[str, FileDataset]]
    """By pipeline and modality."""


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's pipelines, added by the command line."""
    folder = tmp_path_factory.mktemp("zoo")
    home = folder / "pipelines"
    home.mkdir()
    for make in (zoo.segmentation, zoo.classification, zoo.detection, zoo.torchscript):
        bundle = make(folder)
        ended = dicom_node("pipelines", "add", bundle, "--to", home)
        assert ended.status == 0, ended.err
        assert ("needs trust" in ended.out) == (bundle.name in TRUSTED)
        zoo.filled_in(home / bundle.name)
    return home


def _route(pipeline: str) -> dict[str, object]:
    """A study is told by its description, which is the pipeline's name."""
    return {
        "name": pipeline,
        "when": {"attributes": {"SeriesDescription": {"equals": pipeline}}},
        "run": [pipeline],
        "send_to": ["pacs"],
    }


@pytest.fixture(scope="module")
def zoo_site(pipelines: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooSite]:
    folder = tmp_path_factory.mktemp("zoo-site")
    for name, study in STUDIES.items():
        for item in study:
            item.SeriesDescription = item.StudyDescription = name
        write_study(study, folder / name)
    with (
        running_pacs(folder / "pacs") as pacs,
        running_node(
            folder / "node",
            pacs.dicom_port,
            routes=[_route(name) for name in STUDIES],
            pipelines_path=[str(pipelines)],
        ) as node,
    ):
        for name in TRUSTED:
            ended = dicom_node("pipelines", "trust", name, "--config", node.config_file)
            assert ended.status == 0, ended.err
        for name in STUDIES:
            sent = node.send(sorted((folder / name).iterdir()))
            assert sent.returncode == 0, sent.stdout
        lines = node.wait_for_studies(
            [str(study[0].StudyInstanceUID) for study in STUDIES.values()], 300
        )
        for line in lines.values():
            assert [job.state for job in line.jobs] == ["done"], line.jobs
        yield ZooSite(node, pacs, {name: _results(pacs, study) for name, study in STUDIES.items()})


def _results(pacs: Orthanc, study: Sequence[FileDataset]) -> Mapping[str, FileDataset]:
    found = [s for s in stored(pacs) if s.study_uid == str(study[0].StudyInstanceUID)]
    objects = {s.modality: dcmread(io.BytesIO(pacs.file(s.orthanc_id))) for s in found}
    assert len(objects) == len(found)
    return objects


@pytest.mark.parametrize("pipeline", SENT)
def test_its_objects_are_in_the_pacs_and_valid(
    zoo_site: ZooSite, pipeline: str, tmp_path: Path
) -> None:
    results = zoo_site.results[pipeline]
    assert sorted(results) == SENT[pipeline]
    for modality, made in results.items():
        file = tmp_path / f"{modality}.dcm"
        made.save_as(file)
        checked = run_tool("dciodvfy", "-new", str(file))
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], (modality, errors)


def test_the_segmentation_lies_on_the_sphere_and_its_volume_is_told(zoo_site: ZooSite) -> None:
    results = zoo_site.results["sphere_ct_segmentation"]
    (volume,) = _numbers(results["SR"], "118565006")
    assert volume == pytest.approx(SPHERE.ml, rel=0.05)
    _lies_on(hd.seg.Segmentation.from_dataset(results["SEG"]), SPHERE)


def _lies_on(segments: hd.seg.Segmentation, truth: Phantom) -> None:
    uids = list(truth.truth)
    found = segments.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )[..., 0]
    wanted = np.stack([truth.truth[uid] for uid in uids])
    assert 2 * (wanted & (found > 0)).sum() / (wanted.sum() + found.sum()) > 0.93


def test_the_classification_says_which_half_and_claims_no_calibration(zoo_site: ZooSite) -> None:
    report = zoo_site.results["density_classification"]["SR"]
    words = [str(item.TextValue) for item in _items(report) if item.ValueType == "TEXT"]
    assert any(": lower (" in text for text in words)
    assert len(_numbers(report, "122157")) == 2


def test_the_detection_draws_its_box_in_the_report(zoo_site: ZooSite) -> None:
    report = zoo_site.results["nodule_ct_detection"]["SR"]
    (region,) = [item for item in _items(report) if item.ValueType == "SCOORD"]
    image = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    rows, columns = np.nonzero(NODULE.truth[image])
    assert list(region.GraphicData[:2]) == pytest.approx([columns.min(), rows.min()], abs=0.01)
    assert _numbers(report, "number-found") == [1]


def test_torchscript_measures(zoo_site: ZooSite) -> None:
    report = zoo_site.results["brightness_regression"]["SR"]
    values = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in _items(report)
        if item.ValueType == "NUM"
    ]
    assert values == [pytest.approx(25, abs=0.5)]


def test_check_tells_what_it_ran_and_refuses_what_is_not_filled_in(
    pipelines: Path, zoo_site: ZooSite
) -> None:
    command = ("pipelines", "check", "sphere_ct_segmentation", "--config")
    checked = dicom_node(*command, zoo_site.node.config_file)
    assert checked.status == 0, checked.err
    assert "Conv3d: 4×1×32×32×32 to 4×2×32×32×32" in checked.out
    assert "keys used: network_def, preprocessing, inferer, postprocessing" in checked.out
    file = pipelines / "sphere_ct_segmentation" / "configs" / "dicom.yaml"
    text = file.read_text()
    file.write_text(text.replace("scheme: 99SITE", "scheme: FILL IN", 1))
    refused = dicom_node(*command, zoo_site.node.config_file)
    file.write_text(text)
    assert refused.status == 1
    assert "not filled in" in refused.out


def _items(parent: FileDataset) -> list[FileDataset]:
    found = []
    for item in parent.get("ContentSequence") or []:
        found += [item, *_items(item)]
    return found


def _numbers(report: FileDataset, code: str) -> list[float]:
    return [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in _items(report)
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == code
    ]
