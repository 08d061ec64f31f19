"""The hip pipeline with the weights that ship, through the node's own engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dicom_node.inference.bundles import BUILT_IN
from dicom_node.model import own_codes
from dicom_node.model.findings import Side
from pipelines.hip_fixation_device.data import LABELS, labels_of
from pipelines.hip_fixation_device.site_bundle import label_entries
from pipelines.phantoms.hip import HipPhantom, hip_radiograph
from pipelines.phantoms.hip_devices import DEVICES
from pipelines.phantoms.knee import knee_radiograph
from pipelines.phantoms.no_hip import no_hip
from pipelines.transforms.hip import HipDeviceAnswerd, HipLocator
from tests.unit.pipelines.radiograph_cases import (
    answers,
    check_weights,
    findings,
    refusals,
    saliencies,
)

NAME = "hip_fixation_device"
FOLDER = BUILT_IN / NAME


def test_the_weights_are_those_of_the_manifest() -> None:
    check_weights(NAME)


def test_catalogue_and_dicom_yaml_name_the_same_devices_in_the_same_order() -> None:
    devices = yaml.safe_load((FOLDER / "catalogue.yaml").read_text(encoding="utf-8"))["devices"]
    spec = yaml.safe_load((FOLDER / "configs" / "dicom.yaml").read_text(encoding="utf-8"))
    assert [d["key"] for d in devices] == list(DEVICES) == list(LABELS[:-3])
    assert spec["outputs"][0]["labels"] == label_entries()


def test_a_key_that_stands_for_no_device_is_refused_in_a_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text("devices: [{key: a}, {key: none}]", encoding="utf-8")
    with pytest.raises(ValueError, match="used twice"):
        labels_of(file)


@pytest.mark.parametrize("number", range(8))
def test_the_device_that_was_put_in_is_found(number: int) -> None:
    device, side = LABELS[number], "RL"[number % 2]
    made = hip_radiograph(70 + number, device, side, spacing_mm=0.7)
    found = findings(NAME, made.image, made.spacing_mm, laterality=side)
    (item,) = answers(found).values()
    assert LABELS[item.predicted] == device
    assert item.subject.side is Side(side)
    assert item.predicted in item.prediction_set


def test_the_heatmap_of_a_device_lies_on_the_femur_and_hip() -> None:
    made = hip_radiograph(4, "sliding_screw", "L", spacing_mm=0.7)
    (map_,) = saliencies(findings(NAME, made.image, made.spacing_mm, laterality="L"))
    assert map_.map.shape == made.image.shape
    assert _distance_mm(made, np.asarray(map_.map)) < 90


def test_a_film_of_both_hips_gives_right_and_left_their_own_answer() -> None:
    right = hip_radiograph(31, "none", "R", spacing_mm=0.7)
    left = hip_radiograph(32, "sliding_screw", "L", spacing_mm=0.7)
    film = np.hstack([right.image, left.image])
    found = answers(findings(NAME, film, 0.7))
    assert {k: LABELS[v.predicted] for k, v in found.items()} == {
        "right hip": "none",
        "left hip": "sliding_screw",
    }
    assert found["left hip"].subject.side is Side.LEFT


def test_monochrome1_gives_the_same_answer() -> None:
    made = hip_radiograph(41, "twin_nail", "R", spacing_mm=0.7)
    plain, film = (
        findings(NAME, made.image, made.spacing_mm, laterality="R", monochrome1=inverted)
        for inverted in (False, True)
    )
    (one,), (other,) = answers(plain).values(), answers(film).values()
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


@pytest.mark.parametrize("seed", [51, 52, 53])
def test_a_frog_leg_view_is_not_evaluated(seed: int) -> None:
    made = hip_radiograph(seed, "none", "R", "FROG", spacing_mm=0.7)
    assert refusals(findings(NAME, made.image, made.spacing_mm)) == ["wrong-view"]


@pytest.mark.parametrize("seed", [61, 62, 63, 64])
def test_what_is_no_hip_is_not_evaluated(seed: int) -> None:
    if seed % 2:
        pixels = knee_radiograph(seed, 2, spacing_mm=0.5).image
    else:
        pixels = (no_hip(seed, 400) * 4095).astype(np.uint16)
    assert refusals(findings(NAME, pixels, 0.5, laterality="R")) == ["wrong-view"]


def test_the_side_is_never_guessed() -> None:
    (target,) = HipLocator()(torch.zeros(1, 400, 300), {})
    assert target.side is Side.UNKNOWN  # type: ignore[union-attr]
    (target,) = HipLocator()(torch.zeros(1, 300, 400), {"ImageLaterality": "L"})
    assert target.side is Side.LEFT  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("orientation", "sides"),
    [
        (["L", "F"], [Side.RIGHT, Side.LEFT]),
        (["R", "F"], [Side.LEFT, Side.RIGHT]),
        (["A", "F"], [Side.UNKNOWN, Side.UNKNOWN]),
    ],
)
def test_the_sides_of_a_pelvis_are_those_of_its_orientation(
    orientation: list[str], sides: list[Side]
) -> None:
    targets = HipLocator()(torch.zeros(1, 300, 400), {"PatientOrientation": orientation})
    assert [target.side for target in targets] == sides  # type: ignore[union-attr]
    assert len({target.name for target in targets}) == 2  # type: ignore[union-attr]


def test_a_square_film_shows_both_hips_where_it_says_so() -> None:
    square = torch.zeros(1, 400, 400)
    targets = HipLocator()(square, {"Laterality": "B"})
    assert [(target.side, target.box) for target in targets] == [
        (Side.RIGHT, (0, 0, 200, 400)),
        (Side.LEFT, (200, 0, 200, 400)),
    ]
    assert len(HipLocator()(square, {"Laterality": "U"})) == 1
    assert len(HipLocator()(torch.zeros(1, 400, 300), {"Laterality": "B"})) == 1


def test_the_answer_leaves_out_the_class_of_other_views() -> None:
    answer = HipDeviceAnswerd(temperature=1.0, threshold=0.5, most_not_ap=0.5)
    data = answer({"pred": torch.tensor([0.0, 2.0, 1.0, 9.0])})
    assert data["probabilities"].sum() == pytest.approx(1)
    assert len(data["probabilities"]) == 2
    assert "not_evaluated" not in data


def test_the_gate_s_limit_decides() -> None:
    pred = {"pred": torch.tensor([0.0, 0.0, 0.0, 0.0])}
    assert "not_evaluated" in HipDeviceAnswerd(most_not_ap=0.3)(pred)
    assert "not_evaluated" not in HipDeviceAnswerd(most_not_ap=0.4)(pred)


def test_what_is_called_a_device_and_is_far_from_all_of_them_is_not_evaluated() -> None:
    device, other = torch.tensor([5.0, 0, 0, 0, 16]), torch.tensor([0, 0, 5.0, 0, 16])
    refused = HipDeviceAnswerd(farthest=15.0)({"pred": device})["not_evaluated"]
    assert refused.reason == own_codes.OUT_OF_DISTRIBUTION
    assert "not_evaluated" not in HipDeviceAnswerd(farthest=17.0)({"pred": device})
    assert "not_evaluated" not in HipDeviceAnswerd(farthest=15.0)({"pred": other})


def test_the_real_frog_leg_view_is_not_evaluated(shared: Path) -> None:
    from pydicom import dcmread

    dataset = dcmread(shared / "dicom" / "hip_cr" / "RG2_UNC.dcm")
    pixels = dataset.pixel_array.astype(np.uint16) * 4
    assert refusals(findings(NAME, pixels, 0.2)) == ["wrong-view"]


def _distance_mm(made: HipPhantom, values: np.ndarray) -> float:
    """From the hottest point to the nearest of head and upper shaft."""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    outer = -1 if made.side == "R" else 1
    points = [(0, 0), (25, 25), (60, 45), (110, 50)]
    return min(
        float(
            np.hypot(
                row - made.centre[0] - down / made.spacing_mm,
                column - made.centre[1] - outer * across / made.spacing_mm,
            )
            * made.spacing_mm
        )
        for down, across in points
    )
