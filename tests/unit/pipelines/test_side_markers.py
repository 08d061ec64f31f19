"""Letters that name the side are read; what is like them is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import WEIGHTS
from dicom_node.model.findings import Side
from pipelines.networks.side_marker import SideMarkerNetwork
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.knee import knee_radiograph
from pipelines.phantoms.outlines import stamp
from pipelines.side_markers import evaluate, train
from pipelines.transforms import side_markers
from pipelines.transforms.side_markers import SideMarkers
from tests.unit.pipelines.radiograph_cases import answers, findings

torch.set_num_threads(1)
SPACING = 0.25
SAYS_NO_SIDE = {"ImageLaterality": ""}
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def reader() -> SideMarkers:
    return SideMarkers()


def letters(reader: SideMarkers, image: npt.NDArray[np.float64]) -> list[str]:
    return [marker.letter for marker in reader(image.astype(np.float32))]


def film(seed: int = 300, side: str = "R", **said: bool) -> Array:
    made = knee_radiograph(seed, 1, side, spacing_mm=SPACING, **said)
    return made.image / 4095


def test_the_weights_are_those_of_the_manifest_and_halved() -> None:
    entry = yaml.safe_load((WEIGHTS / "manifest.yaml").read_text(encoding="utf-8"))["side_marker"]
    assert (entry["version"], entry["sha256"]) == (side_markers.VERSION, side_markers.SHA256)
    assert WEIGHTS / entry["file"] == side_markers.WEIGHTS
    assert (WEIGHTS / entry["card"]).is_file()
    kinds = {t.dtype for t in load_file(side_markers.WEIGHTS).values() if t.is_floating_point()}
    assert kinds == {torch.float16}


@pytest.mark.parametrize("side", ["R", "L"])
@pytest.mark.parametrize("larger", [0.7, 1, 2, 3])
def test_a_lead_letter_is_read_whatever_the_size_of_the_image(
    reader: SideMarkers, side: str, larger: float
) -> None:
    image = film(side=side)
    shape = tuple(round(n * larger) for n in image.shape[::-1])
    resized = Image.fromarray(image.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
    (marker,) = reader(np.asarray(resized, np.float32))
    assert marker.letter == side
    row, column = marker.row / larger * SPACING, marker.column / larger * SPACING
    assert (row, abs(column - (0 if side == "R" else 165))) == pytest.approx((28, 19), abs=4)


def test_no_letter_is_read_where_none_is(reader: SideMarkers) -> None:
    assert letters(reader, film(marker=False)) == []
    assert letters(reader, np.zeros((300, 200))) == []
    assert letters(reader, np.zeros((20, 9))) == []


def test_both_letters_are_read(reader: SideMarkers) -> None:
    image = film(marker=False)
    for text in "RL":
        stamp(image, text, SPACING, left=text == "R")
    assert sorted(letters(reader, image)) == ["L", "R"]


@pytest.mark.parametrize("text", ["B", "P", "A", "K", "7"])
def test_another_letter_is_none(reader: SideMarkers, text: str) -> None:
    image = film(marker=False)
    stamp(image, text, SPACING, left=True)
    assert letters(reader, image) == []


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize("side", ["R", "L"])
def test_a_letter_that_lies_or_is_mirrored_is_none(
    reader: SideMarkers, side: str, turn: int
) -> None:
    image = film(side=side)
    assert letters(reader, np.rot90(image, turn).copy()) == []
    assert letters(reader, image[:, ::-1].copy()) == []


def test_weights_that_are_others_or_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="No such file"):
        SideMarkers(tmp_path / "none.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"x")
    with pytest.raises(PipelineError, match="not the ones of the manifest") as told:
        SideMarkers(tmp_path / "other.safetensors")
    assert "restore" in told.value.fix


@pytest.mark.parametrize("pipeline", ["knee_kl_ensemble", "knee_osteoporosis_superfluity"])
@pytest.mark.parametrize("side", ["R", "L"])
def test_a_knee_without_a_stated_side_gets_that_of_its_marker(pipeline: str, side: str) -> None:
    made = knee_radiograph(91, 2, side)
    (item,) = answers(
        findings(pipeline, made.image, made.spacing_mm, changed=SAYS_NO_SIDE)
    ).values()
    assert item.subject.side is Side(side)
    assert item.subject.side_source == f"the marker {side} in the image (read by side_marker 0.1.0)"


def test_a_marker_that_contradicts_the_header_leaves_the_side_unknown() -> None:
    made = knee_radiograph(91, 2, "R")
    found = findings("knee_kl_ensemble", made.image, made.spacing_mm, laterality="L")
    (item,) = answers(found).values()
    assert item.subject.side is Side.UNKNOWN
    assert "says L, but there is the marker R" in item.subject.side_source


def test_of_an_image_of_both_a_marker_names_no_side_of_the_one_that_was_found() -> None:
    made = knee_radiograph(91, 2, "R")
    (item,) = answers(findings("knee_kl_ensemble", made.image, made.spacing_mm)).values()
    assert item.subject.side is Side.UNKNOWN


def test_markers_of_a_film_of_both_agree_with_the_position_or_take_the_sides_away() -> None:
    made = knee_radiograph(90, 0, left_grade=4)
    found = answers(findings("knee_kl_ensemble", made.image, made.spacing_mm))
    assert "position" in found["left knee"].subject.side_source
    assert "the marker L in the image" in found["left knee"].subject.side_source
    plain = knee_radiograph(90, 0, left_grade=4, marker=False)
    image = plain.image / 4095
    stamp(image, "L", plain.spacing_mm, left=True)
    pixels = (image * 4000).astype(np.uint16)
    found = answers(findings("knee_kl_ensemble", pixels, plain.spacing_mm))
    assert {item.subject.side for item in found.values()} == {Side.UNKNOWN}


def test_a_hip_gets_the_side_of_its_marker() -> None:
    made = hip_radiograph(5001, "none")
    found = findings("hip_fixation_device", made.image, made.spacing_mm, changed=SAYS_NO_SIDE)
    (item,) = answers(found).values()
    assert item.subject.side is Side(made.side)


def test_training_from_a_seed_is_the_same_again_and_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "knees").mkdir()
    rows = ["file,split"]
    for number in range(3):
        pixels = (film(310 + number, marker=False)[300:620, 150:470] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "knees" / f"{number}.png")
        rows.append(f"{number}.png,train")
    (tmp_path / "knees" / "labels.csv").write_text("\n".join(rows))
    asked = ["--crops", str(tmp_path / "knees"), "--scenes", "120", "--steps", "24"]
    for name in ("one", "two"):
        assert train.main([*asked, "--out", str(tmp_path / f"{name}.safetensors")]) == 0
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    SideMarkerNetwork().load_state_dict(one)
    losses = [
        float(line.rpartition(" ")[2])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("reader: loss")
    ]
    assert losses[:2] == losses[2:]
    assert max(losses) < 1  # ln 3 is 1.1


def test_the_evaluation_counts_what_is_right_missed_wrong_and_false(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {
        "right.png": (film(side="R"), "R"),
        "missed.png": (film(marker=False), "L"),
        "wrong.png": (film(side="R"), "L"),
        "false.png": (film(side="L"), ""),
        "nothing.png": (film(marker=False), ""),
    }
    rows = ["file,letters"]
    for name, (image, listed) in images.items():
        Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / name)
        rows.append(f"{name},{listed}")
    truth, told = tmp_path / "truth.csv", tmp_path / "told.json"
    truth.write_text("\n".join(rows))
    asked = ["--data", str(tmp_path), "--truth", str(truth), "--json", str(told)]
    assert evaluate.main(asked) == 0
    assert json.loads(told.read_text()) == {
        "marked": 3,
        "right": 1,
        "missed": 1,
        "wrong": 1,
        "unmarked": 2,
        "false": 1,
    }
    assert "wrong.png: wrong, listed L, read {'R'}" in capsys.readouterr().out


def test_the_letters_of_real_films_are_read(shared: Path, reader: SideMarkers) -> None:
    """Of the first list 116 of 262 images have a letter, of the other 38 of 148."""
    for name, least in (("knee_osteoporosis", 0.97), ("out_of_scope", 0.7)):
        counts = evaluate.evaluate(shared / name, evaluate.TRUTH / f"{name}.csv", reader)
        assert counts["right"] >= least * counts["marked"], counts
        assert counts["wrong"] == 0, counts
        assert counts["false"] <= 1, counts
