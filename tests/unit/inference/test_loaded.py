"""A bundle from folder to Findings, on DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.model import own_codes
from dicom_node.model.findings import (
    Classification,
    Finding,
    Measurement,
    NotEvaluated,
    Region,
    Saliency,
    Side,
)
from dicom_node.model.targets import Rejection
from tests.factories import radiograph
from tests.unit.inference import tiny_parts
from tests.unit.inference.job_files import STARTED, job, spot
from tests.unit.inference.tiny_bundles import REGRESSION, parts, write_bundle

torch.set_num_threads(1)


def pipeline(folder: Path, *, spec: Any = None, units: int = 2, **names: Any) -> LoadedPipeline:
    bundle = write_bundle(
        folder, inference=parts(**names), units=units, **({"spec": spec} if spec else {})
    )
    return LoadedPipeline(load_bundle(bundle), torch.device("cpu"))


def only(items: tuple[Finding, ...], kind: type) -> Any:
    (found,) = [item for item in items if isinstance(item, kind)]
    return found


def test_a_radiograph_becomes_an_answer_with_its_reason(tmp_path: Path) -> None:
    dataset = radiograph(spot(30, 90), ImageLaterality="R")
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", [dataset]))
    findings = outcome.findings
    answer, why = only(findings.items, Classification), only(findings.items, Saliency)
    assert findings.evaluated
    assert answer.labels[answer.predicted].text == "bright"
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.prediction_set == (1,)
    assert answer.coverage == 0.9
    subject = answer.subject
    assert (subject.name, subject.side) == ("right knee", Side.RIGHT)
    assert subject.side_source == "ImageLaterality (0020,0062)"
    assert subject.images[0].sop_instance_uid == dataset.SOPInstanceUID
    assert (why.target, why.method, why.layer) == ("bright", "Grad-CAM", "features")
    assert why.map.shape == (96, 128)
    assert np.unravel_index(why.map.argmax(), why.map.shape) == (
        pytest.approx(30, abs=6),
        pytest.approx(90, abs=6),
    )
    assert findings.statement == "Right knee: bright (> 99 %; possible: bright)."
    assert findings.algorithm.name == "tiny"
    assert findings.started == STARTED
    assert findings.images == subject.images


def test_the_picture_is_what_the_radiologist_sees(tmp_path: Path) -> None:
    dataset = radiograph(spot(30, 90), PhotometricInterpretation="MONOCHROME1")
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", [dataset]))
    picture = outcome.pictures[dataset.SOPInstanceUID]
    assert picture.dtype == np.uint8
    assert picture.shape == (96, 128)
    assert picture[30, 90] < 40 < picture[80, 20]


def test_no_side_is_guessed(tmp_path: Path) -> None:
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", [radiograph(spot(30, 90))]))
    subject = outcome.findings.items[0].subject
    assert (subject.name, subject.side, subject.side_source) == ("knee", Side.UNKNOWN, "")


def test_each_target_of_a_locator_is_answered_and_explained_in_its_own_box(tmp_path: Path) -> None:
    loaded = pipeline(tmp_path, locator="halves")
    # the spot lies in the half that is mirrored before the network sees it
    outcome = loaded.run(job(tmp_path / "in", [radiograph(spot(30, 74))]))
    right, why_right, left, why_left = outcome.findings.items
    assert (right.subject.name, left.subject.name) == ("right knee", "left knee")
    assert (right.predicted, left.predicted) == (0, 1)
    assert left.subject.box == (64, 0, 64, 96)
    assert np.unravel_index(why_left.map.argmax(), why_left.map.shape) == (
        pytest.approx(30, abs=6),
        pytest.approx(74, abs=6),
    )
    assert (why_left.map[:, :64] == 0).all()
    assert (why_right.map[:, 64:] == 0).all()
    assert outcome.findings.statement.startswith("Right knee: dark")
    assert "Left knee: bright" in outcome.findings.statement


def test_images_whose_subjects_have_one_name_are_told_apart(tmp_path: Path) -> None:
    images = [
        radiograph(spot(30, 90), ImageLaterality="R", InstanceNumber=1),
        radiograph(spot(30, 40), ImageLaterality="R", InstanceNumber=2),
        radiograph(spot(30, 40), ImageLaterality="L", InstanceNumber=3),
    ]
    for image in images:
        image.SeriesInstanceUID = "1.2.3"
    made = job(tmp_path / "in", images)
    outcome = pipeline(tmp_path).run(made)
    names = [f.subject.name for f in outcome.findings.items if isinstance(f, Classification)]
    assert names == ["right knee (image 1)", "right knee (image 2)", "left knee"]
    backwards = JobInput(made.files[::-1], made.facts[::-1], None, STARTED)
    again = pipeline(tmp_path / "again").run(backwards)
    assert again.findings.statement == outcome.findings.statement
    assert again.findings.images == outcome.findings.images


def test_each_frame_is_answered(tmp_path: Path) -> None:
    dataset = radiograph(spot(30, 90))
    dataset.NumberOfFrames = 2
    dataset.PixelData = np.stack([spot(30, 90), spot(60, 20)]).tobytes()
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", [dataset]))
    answers = [f for f in outcome.findings.items if isinstance(f, Classification)]
    assert [a.subject.name for a in answers] == ["knee (frame 1)", "knee (frame 2)"]
    assert set(outcome.pictures) == {f"{dataset.SOPInstanceUID}#{n}" for n in (1, 2)}


def test_a_regression_gives_number_region_and_saliency(tmp_path: Path) -> None:
    loaded = pipeline(
        tmp_path,
        spec=REGRESSION,
        units=1,
        network_def={"_target_": f"{tiny_parts.__name__}.BrightSpot", "outputs": 1},
        postprocessing="BrightestValue",
        locator="halves",
    )
    outcome = loaded.run(job(tmp_path / "in", [radiograph(spot(30, 74))]))
    left = [f for f in outcome.findings.items if f.subject.name == "left knee"]
    number, region, why = left
    assert isinstance(number, Measurement)
    assert isinstance(region, Region)
    assert isinstance(why, Saliency)
    assert (number.uncertainty, number.unit.scheme) == (0.5, "UCUM")
    assert (why.target, why.method) == ("Brightest value", "Grad-CAM++")
    rows, columns = np.nonzero(region.mask)
    assert region.mask.shape == (96, 128)
    assert (rows.mean(), columns.mean()) == (pytest.approx(30, abs=2), pytest.approx(74, abs=2))
    assert outcome.findings.statement.endswith(
        f"Left knee: brightest value {number.value:.2f} (± 0.5)."
    )


def test_a_rejected_target_and_a_closed_gate_are_not_evaluated(tmp_path: Path) -> None:
    image = radiograph(spot(30, 90), ViewPosition="LL", ImageLaterality="L")
    refused = pipeline(tmp_path / "a", locator="rejecting").run(job(tmp_path / "in", [image]))
    shut = pipeline(tmp_path / "b", gate="lateral_view_is_refused").run(
        job(tmp_path / "in", [image])
    )
    for outcome, why in ((refused, "not an AP view of the knee"), (shut, "a lateral view")):
        item = only(outcome.findings.items, NotEvaluated)
        assert item.reason == tiny_parts.REASON
        assert not outcome.findings.evaluated
        assert outcome.findings.statement == f"Left knee: not evaluated: the image is {why}."
        assert image.SOPInstanceUID in outcome.pictures


def test_a_locator_that_finds_nothing_says_so(tmp_path: Path) -> None:
    outcome = pipeline(tmp_path, locator="nothing").run(
        job(tmp_path / "in", [radiograph(spot(30, 90))])
    )
    assert only(outcome.findings.items, NotEvaluated).reason == own_codes.NOTHING_FOUND
    assert outcome.findings.statement == "Knee: not evaluated: no knee was found in the image."


def test_pixels_that_cannot_be_read_are_a_finding_and_cost_no_other_image(tmp_path: Path) -> None:
    broken = radiograph(spot(30, 90), ImageLaterality="L", InstanceNumber=1)
    broken.PixelData = broken.PixelData[:-10]
    whole = radiograph(spot(30, 90), ImageLaterality="R", InstanceNumber=2)
    whole.SeriesInstanceUID = broken.SeriesInstanceUID
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", [broken, whole]))
    refused, answer, _ = outcome.findings.items
    assert isinstance(refused, NotEvaluated)
    assert refused.reason == own_codes.UNREADABLE
    assert (refused.subject.name, answer.subject.name) == ("left knee", "right knee")
    assert set(outcome.pictures) == {whole.SOPInstanceUID}


def test_a_job_that_routing_rejected_gives_one_finding_with_a_picture(tmp_path: Path) -> None:
    why = Rejection(own_codes.WRONG_VIEW, "no AP view in the study")
    broken = radiograph(spot(30, 90))
    del broken.PixelData
    images = [broken, radiograph(spot(30, 90)), radiograph(spot(9, 9))]
    for number, image in enumerate(images):
        image.SeriesNumber = number
    outcome = pipeline(tmp_path).run(job(tmp_path / "in", images, why))
    item = only(outcome.findings.items, NotEvaluated)
    assert (item.reason, item.text) == (why.reason, why.text)
    assert set(outcome.pictures) == {images[1].SOPInstanceUID}
    assert item.subject.images[0].sop_instance_uid == images[1].SOPInstanceUID
    assert len(outcome.findings.images) == 3


@pytest.mark.parametrize(
    ("names", "what", "why"),
    [
        ({"locator": "quoting_the_patient"}, "pipeline tiny", "its locator raised ValueError at"),
        ({"locator": "empty_box"}, "pipeline tiny", "empty box"),
        ({"postprocessing": "WithoutSoftmax"}, "output probabilities", "not one probability"),
        ({"postprocessing": None}, "output probabilities", "did not make it"),
        ({"preprocessing": "BrightestValue"}, "pipeline tiny", "preprocessing raised KeyError"),
        (
            {"network_def": {"_target_": f"{tiny_parts.__name__}.NotFinite"}},
            "pipeline tiny",
            "output is not finite",
        ),
    ],
)
def test_a_part_that_fails_is_an_error_that_names_it_and_no_patient(
    tmp_path: Path, names: dict[str, Any], what: str, why: str
) -> None:
    loaded = pipeline(tmp_path, **names)
    with pytest.raises(PipelineError) as caught:
        loaded.run(job(tmp_path / "in", [radiograph(spot(30, 90), PatientName="Doe^Jane")]))
    assert caught.value.what == what
    assert why in caught.value.why
    assert "Doe" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_job_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no images"):
        pipeline(tmp_path).run(JobInput((), (), None, STARTED))


def test_the_same_image_gives_the_same_numbers(tmp_path: Path) -> None:
    made = job(tmp_path / "in", [radiograph(spot(30, 90))])
    first = pipeline(tmp_path / "a").run(made).findings.items
    loaded = pipeline(tmp_path / "b")
    for _ in range(2):
        again = loaded.run(made).findings.items
        assert again[0] == first[0]
        assert np.array_equal(again[1].map, first[1].map)


def test_what_the_numbers_depend_on_is_recorded(tmp_path: Path) -> None:
    loaded = pipeline(tmp_path)
    record = loaded.run(job(tmp_path / "in", [radiograph(spot(30, 90))])).record
    assert record["device"] == "cpu"
    assert record["precision"] == "float32"
    assert record["weights_sha256"] == loaded.bundle.weights_sha256
    assert all(record[name] for name in ("torch", "monai", "pydicom", "python"))
