"""Bundles of the Model Zoo's layout, from their folder to findings and result objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.dataset import FileDataset

from dicom_node.demo.phantom_studies import radiograph_study
from dicom_node.errors import PipelineError
from dicom_node.inference.adding import add
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.jobs import Outcome
from dicom_node.inference.local import LocalExecutor
from dicom_node.inference.trust import trust
from dicom_node.model.findings import Classification, Measurement, Region
from dicom_node.model.own_codes import NUMBER_FOUND
from dicom_node.results.report import Report, build_report
from tests.unit.inference import zoo_bundles as zoo
from tests.unit.inference.ct_phantoms import Phantom, cuboid, phantom, sphere
from tests.unit.inference.job_files import job


def added(tmp_path: Path, bundle: Path, *, trusted: bool = False) -> Path:
    """Add a bundle to a folder of pipelines and fill in its dicom.yaml."""
    home = tmp_path / "pipelines"
    home.mkdir(exist_ok=True)
    folder = add(bundle, home).folder
    zoo.filled_in(folder)
    if trusted:
        trust(folder)
    return folder


def run(folder: Path, slices: list[FileDataset], files: Path) -> tuple[Outcome, Report]:
    bundle = load_bundle(folder)
    executor = LocalExecutor({bundle.name: bundle}, device="cpu", threads=1)
    outcome = executor.run(bundle.name, job(files, slices))
    return outcome, build_report(outcome.findings, slices, outcome.pictures, bundle.spec)


def kinds(report: Report) -> list[str]:
    return [item.kind for item in report.objects]


ORIENTATIONS = {
    "axial": {},
    "oblique": {"tilt": 20.0},
    "numbered from head to feet": {"reversed_numbers": True},
    "normal to the feet, oblique": {"feet_first_stack": True, "tilt": -12.0},
}


@pytest.mark.parametrize("series", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_a_segmentation_finds_the_sphere_on_its_slices_with_its_volume(
    tmp_path: Path, series: dict[str, object]
) -> None:
    truth = phantom(sphere(17, (9, -6, 5)), "SPHERE", **series)  # type: ignore[arg-type]
    folder = added(tmp_path, zoo.segmentation(tmp_path))
    outcome, report = run(folder, list(truth.slices), tmp_path / "in")
    (region,) = [item for item in outcome.findings.items if isinstance(item, Region)]
    (volume,) = [item for item in outcome.findings.items if isinstance(item, Measurement)]
    assert volume.unit.value == "mL"
    assert volume.value == pytest.approx(truth.ml, rel=0.05)
    assert outcome.findings.statement == f"Spleen: {volume.value:.1f} mL."
    _is_the_truth(region, truth)
    assert kinds(report) == ["SR", "SC", "SEG"]
    segments = report.objects[2].dataset
    assert segments.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Spleen"
    assert len(segments.PerFrameFunctionalGroupsSequence) == len(region.mask)


def _is_the_truth(region: Region, truth: Phantom) -> None:
    """Compare a region with the truth, slice by slice, by the slices' UIDs."""
    found = dict(zip((i.sop_instance_uid for i in region.subject.images), region.mask, strict=True))
    together = both = 0
    for uid, mask in truth.truth.items():
        plane = found.get(uid, np.zeros_like(mask))
        together += int(plane.sum()) + int(mask.sum())
        both += int((plane & mask).sum())
    assert 2 * both / together > 0.93


def test_a_segment_that_is_nowhere_has_no_volume_and_no_segmentation(tmp_path: Path) -> None:
    nothing = phantom(sphere(0.1, (500, 0, 0)), "NOTHING", shape=(32, 32, 8))
    folder = added(tmp_path, zoo.segmentation(tmp_path))
    outcome, report = run(folder, list(nothing.slices), tmp_path / "in")
    (item,) = outcome.findings.items
    assert isinstance(item, Measurement)
    assert item.value == 0
    assert kinds(report) == ["SR", "SC"]


def test_a_classification_gives_the_probability_that_postprocessing_threw_away(
    tmp_path: Path,
) -> None:
    folder = added(tmp_path, zoo.classification(tmp_path))
    for lower, text in ((False, "upper"), (True, "lower")):
        pixels = (zoo.disc(256, lower) * 4000).numpy().astype(np.uint16)
        study = radiograph_study(
            pixels, 0.2, key=f"DISC-{text}", body_part="CHEST", description="disc"
        )
        outcome, report = run(folder, study, tmp_path / text)
        (found,) = [i for i in outcome.findings.items if isinstance(i, Classification)]
        assert found.labels[found.predicted].text == text
        assert 0.5 < found.probabilities[found.predicted] < 1
        assert not found.calibrated
        words = {str(item.value) for item in report.objects[0].dataset.iterall() if item.VR == "SH"}
        assert "calibrated" not in words


def test_a_classification_has_a_heat_map_where_a_layer_is_named(tmp_path: Path) -> None:
    folder = added(tmp_path, zoo.classification(tmp_path))
    file = folder / "configs" / "dicom.yaml"
    file.write_text(file.read_text() + "saliency: {key: network_output, layer: net.layer_1}\n")
    pixels = (zoo.disc(256, True) * 4000).numpy().astype(np.uint16)
    study = radiograph_study(pixels, 0.2, key="DISC-MAP", body_part="CHEST", description="disc")
    outcome, _ = run(folder, study, tmp_path / "in")
    map_ = outcome.findings.items[-1].map  # type: ignore[union-attr]
    assert map_.shape == (256, 256)
    assert outcome.findings.items[-1].target == "lower"  # type: ignore[union-attr]


def test_a_detection_marks_the_nodule_on_its_slices(tmp_path: Path) -> None:
    # where the network has an anchor: it moves none
    truth = phantom(
        cuboid((8, 8, 8), (2, -6, 2)),
        "NODULE",
        shape=(64, 64, 32),
        spacing=(1.0, 1.0, 2.0),
        hu=(290, -900),
    )
    folder = added(tmp_path, zoo.detection(tmp_path), trusted=True)
    outcome, report = run(folder, list(truth.slices), tmp_path / "in")
    count, *rest = outcome.findings.items
    assert isinstance(count, Measurement)
    assert (count.concept, count.value) == (NUMBER_FOUND, 1)
    region, score = rest
    assert isinstance(region, Region)
    assert isinstance(score, Measurement)
    assert 50 <= score.value <= 100
    _is_the_truth(region, truth)
    assert region.marked is not None
    (left, top, width, height), image = region.marked
    rows, columns = np.nonzero(truth.truth[image.sop_instance_uid])
    assert (left, top) == pytest.approx((columns.min(), rows.min()), abs=0.01)
    assert (width, height) == pytest.approx((8, 8), abs=0.01)
    assert kinds(report) == ["SR", "SC", "PR"]
    _has_a_region(report, image.sop_instance_uid, (left, top))


def _has_a_region(report: Report, uid: str, corner: tuple[float, float]) -> None:
    """The SR draws the box on its image (TID 1410)."""
    regions = [
        item for item in _items(report.objects[0].dataset) if item.get("ValueType") == "SCOORD"
    ]
    (region,) = regions
    assert region.GraphicType == "POLYLINE"
    assert tuple(region.GraphicData[:2]) == pytest.approx(corner, abs=0.01)
    image = region.ContentSequence[0].ReferencedSOPSequence[0]
    assert image.ReferencedSOPInstanceUID == uid


def _items(parent: FileDataset) -> list[FileDataset]:
    found = []
    for item in parent.get("ContentSequence") or []:
        found += [item, *_items(item)]
    return found


def test_a_bundle_s_own_code_runs_only_when_it_is_trusted_and_unchanged(tmp_path: Path) -> None:
    folder = added(tmp_path, zoo.detection(tmp_path))
    truth = phantom(sphere(4), "NODULE-2", shape=(32, 32, 8), hu=(290, -900))
    with pytest.raises(PipelineError, match=r"only if you trust it: .*scripts\.network"):
        run(folder, list(truth.slices), tmp_path / "in")
    trust(folder)
    run(folder, list(truth.slices), tmp_path / "in")
    script = folder / "scripts" / "network.py"
    script.write_text(script.read_text() + "\n")
    with pytest.raises(PipelineError, match="have changed since it was trusted"):
        run(folder, list(truth.slices), tmp_path / "in")


def test_torchscript_runs_when_it_is_trusted_and_measures(tmp_path: Path) -> None:
    folder = added(tmp_path, zoo.torchscript(tmp_path))
    pixels = np.full((128, 128), 512, np.uint16)
    pixels[:64] = 1536
    study = radiograph_study(pixels, 0.2, key="GREY", body_part="CHEST", description="grey")
    with pytest.raises(PipelineError, match="TorchScript, which is a program"):
        run(folder, study, tmp_path / "in")
    trust(folder)
    outcome, report = run(folder, study, tmp_path / "in")
    (value,) = outcome.findings.items
    assert isinstance(value, Measurement)
    assert value.value == pytest.approx(100 * 1024 / 4096, abs=0.5)
    assert kinds(report) == ["SR", "SC"]


def test_a_pipeline_with_a_place_to_fill_in_does_not_run(tmp_path: Path) -> None:
    home = tmp_path / "pipelines"
    home.mkdir()
    folder = add(zoo.segmentation(tmp_path), home).folder
    truth = phantom(sphere(8), "UNFILLED", shape=(32, 32, 8))
    with pytest.raises(PipelineError, match=r"not filled in: procedure\.value"):
        run(folder, list(truth.slices), tmp_path / "in")


def test_a_label_map_that_was_not_brought_back_is_refused(tmp_path: Path) -> None:
    bundle = zoo.segmentation(tmp_path)
    file = bundle / "configs" / "inference.json"
    config = json.loads(file.read_text())
    steps = config["postprocessing"]["transforms"]
    config["postprocessing"]["transforms"] = [s for s in steps if s["_target_"] != "Invertd"]
    file.write_text(json.dumps(config))
    truth = phantom(sphere(8), "STAYED", shape=(32, 32, 8))
    folder = added(tmp_path, bundle)
    with pytest.raises(PipelineError, match="does not fit the source"):
        run(folder, list(truth.slices), tmp_path / "in")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
