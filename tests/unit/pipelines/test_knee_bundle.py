"""The knee pipeline with the weights that ship, through the node's own engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from dicom_node.inference.saliency import Explainer
from dicom_node.model.findings import Side
from pipelines.knee_kl_ensemble.phantoms import SEEDS, phantom_crop
from pipelines.networks.kl_ensemble import KLEnsemble, View
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.knee import knee_radiograph
from pipelines.phantoms.no_hip import no_hip
from pipelines.transforms.knee_search import find_joints
from tests.benchmarks.knee_heatmaps import randomised, share_in_band
from tests.unit.pipelines.radiograph_cases import (
    answers,
    check_weights,
    findings,
    refusals,
    saliencies,
)

NAME = "knee_kl_ensemble"
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def finder() -> torch.nn.Module:
    network = build_parts(load_bundle(BUILT_IN / NAME), torch.device("cpu")).network
    return network.get_submodule("finder")


def test_the_weights_are_those_of_the_manifest() -> None:
    check_weights(NAME)


def test_the_labels_are_the_five_grades_in_order() -> None:
    (output,) = load_bundle(BUILT_IN / NAME).spec.outputs
    assert [label.code.value for label in output.labels] == [f"kl-{k}" for k in range(5)]


def test_what_the_heatmap_explains_is_the_joint_as_it_was_framed() -> None:
    network = build_parts(load_bundle(BUILT_IN / NAME), torch.device("cpu")).network
    assert isinstance(network, KLEnsemble)
    assert network.members[0].views[0] == View()


def test_a_knee_gets_the_same_answer_from_either_side_of_the_mirror() -> None:
    network = build_parts(load_bundle(BUILT_IN / NAME), torch.device("cpu")).network
    made = knee_radiograph(94, 2)
    crop = phantom_crop(made, made.joints[0], 224) / np.float32(255)
    image = torch.from_numpy(crop)[None, None]
    with torch.inference_mode():
        assert torch.allclose(network(image), network(image.flip(-1)), atol=1e-3)


@pytest.mark.parametrize(("grade", "side"), [(0, "R"), (0, "L"), (4, "R"), (4, "L")])
def test_the_grade_that_was_put_in_is_found(grade: int, side: str) -> None:
    made = knee_radiograph(80 + grade, grade, side)
    found = findings(NAME, made.image, made.spacing_mm, laterality=side)
    (item,) = answers(found).values()
    assert item.predicted == grade
    assert item.subject.side is Side(side)


def test_each_knee_of_a_bilateral_film_is_graded_on_its_own() -> None:
    made = knee_radiograph(90, 0, left_grade=4)
    found = answers(findings(NAME, made.image, made.spacing_mm))
    assert set(found) == {"right knee", "left knee"}
    assert found["right knee"].predicted < 2
    assert found["left knee"].predicted == 4
    assert "position" in found["left knee"].subject.side_source


def test_a_bilateral_film_seen_from_behind_keeps_right_and_left_apart() -> None:
    made = knee_radiograph(90, 0, left_grade=4)
    found = answers(
        findings(
            NAME,
            np.ascontiguousarray(made.image[:, ::-1]),
            made.spacing_mm,
            changed={"PatientOrientation": ["R", "F"]},
        )
    )
    assert found["right knee"].predicted < 2
    assert found["left knee"].predicted == 4
    assert "PatientOrientation" in found["left knee"].subject.side_source


def test_a_film_of_both_knees_that_states_one_side_gets_none() -> None:
    made = knee_radiograph(90, 0, left_grade=4)
    found = answers(findings(NAME, made.image, made.spacing_mm, laterality="R"))
    assert {item.subject.side for item in found.values()} == {Side.UNKNOWN}
    assert found["knee at the image's left, side unknown"].predicted < 2
    assert found["knee at the image's right, side unknown"].predicted == 4


def test_a_knee_without_a_stated_side_gets_none() -> None:
    made = knee_radiograph(91, 2, marker=False)
    (item,) = answers(findings(NAME, made.image, made.spacing_mm)).values()
    assert item.subject.side is Side.UNKNOWN


def test_monochrome1_gives_the_same_answer() -> None:
    made = knee_radiograph(92, 3)
    (one,), (other,) = (
        answers(
            findings(NAME, made.image, made.spacing_mm, laterality="R", monochrome1=inverted)
        ).values()
        for inverted in (False, True)
    )
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)


def test_the_heatmap_is_on_the_source_grid_and_inside_the_joint_s_box() -> None:
    made = knee_radiograph(93, 4, "L")
    (map_,) = saliencies(findings(NAME, made.image, made.spacing_mm, laterality="L"))
    values = np.asarray(map_.map)
    assert values.shape == made.image.shape
    row, column, size = made.joints[0].crop
    top, left = (round(n - 0.6 * size) for n in (row, column))
    inside = values[max(0, top) : round(top + 1.2 * size), max(0, left) : round(left + 1.2 * size)]
    assert np.nansum(inside) > 0.99 * np.nansum(values)


def test_the_heatmap_looks_at_the_joint_and_comes_from_what_was_learned() -> None:
    bundle = load_bundle(BUILT_IN / NAME)
    learned, random = (build_parts(bundle, torch.device("cpu")).network for _ in range(2))
    randomised(random)
    assert bundle.spec.saliency is not None
    made = knee_radiograph(98, 3)
    pixels = phantom_crop(made, made.joints[0], 224)
    image = torch.from_numpy(pixels)[None, None].float() / 255
    heat, other = (
        Explainer(one, bundle.spec.saliency.layer)(image, 3) for one in (learned, random)
    )
    assert share_in_band(heat) > 0.6
    assert np.corrcoef(heat.ravel(), other.ravel())[0, 1] < 0.5


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("known", [True, False])
def test_joints_are_where_they_were_drawn(finder: torch.nn.Module, both: bool, known: bool) -> None:
    for seed in (94, 95, 96):
        made = knee_radiograph(
            seed, seed % 5, left_grade=1 if both else None, spacing_mm=0.3 + 0.1 * (seed % 3)
        )
        found = find_joints(
            made.image.astype(np.float32) / 4095, finder, spacing=made.spacing_mm if known else None
        )
        assert len(found) == len(made.joints)
        for joint, truth in zip(sorted(found, key=lambda j: j.column), made.joints, strict=True):
            row, column, size = truth.crop
            error = np.hypot(joint.row - row, joint.column - column) * made.spacing_mm
            assert error < 8
            assert joint.size / size == pytest.approx(1, abs=0.15)


def test_a_wrong_pixel_spacing_does_not_hide_the_knee(finder: torch.nn.Module) -> None:
    made = knee_radiograph(97, 1)
    found = find_joints(made.image.astype(np.float32) / 4095, finder, spacing=made.spacing_mm * 3)
    assert len(found) == 1


def test_nothing_is_found_in_noise_and_blank_images(finder: torch.nn.Module) -> None:
    noise = np.random.default_rng(0).random((400, 300)).astype(np.float32)
    assert find_joints(noise, finder) == []
    assert find_joints(np.zeros((300, 400), np.float32), finder) == []
    assert find_joints(np.ones((60, 50), np.float32), finder) == []


@pytest.mark.parametrize("seed", [101, 102, 103, 104])
def test_what_is_no_knee_is_not_evaluated(seed: int) -> None:
    if seed % 2:
        pixels = hip_radiograph(seed, "none", spacing_mm=0.5).image
    else:
        pixels = (no_hip(seed, 400) * 4095).astype(np.uint16)
    assert refusals(findings(NAME, pixels, 0.5, laterality="R")) == ["nothing-found"]


def test_a_crop_of_a_phantom_is_centred_on_its_joint() -> None:
    made = knee_radiograph(98, 0)
    crop = phantom_crop(made, made.joints[0], 224)
    lines = crop[:, 60:165].astype(float).mean(1)
    darkest = 100 + int(np.argmin(lines[100:165]))
    assert darkest == pytest.approx(0.59 * 224, abs=8)
    assert SEEDS > 1000


def test_a_crop_on_a_dark_surround_is_taken_to_its_borders() -> None:
    crop = phantom_crop(made := knee_radiograph(99, 3), made.joints[0], 224).astype(np.uint16) * 16
    (alone,) = answers(findings(NAME, crop, 96 / 224, laterality="R")).values()
    framed = np.pad(crop, ((90, 150), (60, 80)))
    (item,) = answers(findings(NAME, framed, 96 / 224, laterality="R")).values()
    assert item.subject.box == (60, 90, 224, 224)
    assert item.probabilities == pytest.approx(alone.probabilities, abs=1e-3)


def test_of_two_crops_side_by_side_each_is_taken_to_the_seam() -> None:
    crops = [
        phantom_crop(made, made.joints[0], 224).astype(np.uint16) * 16
        for made in (knee_radiograph(99, 3), knee_radiograph(97, 1, "L"))
    ]
    found = answers(findings(NAME, np.hstack(crops), 96 / 224))
    boxes = [found[name].subject.box for name in ("right knee", "left knee")]
    assert boxes == [(0, 0, 224, 224), (224, 0, 224, 224)]


def test_the_real_lower_leg_and_chest_hold_no_knee(shared: Path, finder: torch.nn.Module) -> None:
    from pydicom import dcmread

    from dicom_node.inference.display import display

    for name in ("mixed/RG1_chest_cr_J2KI.dcm", "hip_cr/RG2_UNC.dcm"):
        dataset = dcmread(shared / "dicom" / name)
        assert find_joints(display(dataset.pixel_array, dataset), finder) == []
