"""The osteoporosis pipelines with the weights that ship, through the node's own engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from dicom_node.model.findings import Side
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.knee import knee_radiograph
from tests.unit.pipelines.radiograph_cases import (
    answers,
    check_weights,
    findings,
    refusals,
    saliencies,
)

NAMES = {"knee_osteoporosis_superfluity": 3, "knee_osteoporosis_resnet50": 2}
torch.set_num_threads(1)


@pytest.mark.parametrize("name", list(NAMES))
def test_the_weights_are_those_of_the_manifest(name: str) -> None:
    check_weights(name)


@pytest.mark.parametrize("name", list(NAMES))
def test_labels_are_snomed_ct_s_and_in_order_of_bone_density(name: str) -> None:
    (output,) = load_bundle(BUILT_IN / name).spec.outputs
    codes = [label.code.value for label in output.labels]
    wanted = ["17621005", "312894000", "64859006"]
    assert codes == (wanted if NAMES[name] == 3 else [wanted[0], wanted[2]])
    assert {label.code.scheme for label in output.labels} == {"SCT"}


@pytest.mark.parametrize("name", list(NAMES))
def test_each_knee_of_a_bilateral_film_is_read_on_its_own(name: str) -> None:
    made = knee_radiograph(90, 0, left_grade=1)
    found = answers(findings(name, made.image, made.spacing_mm))
    assert set(found) == {"right knee", "left knee"}
    for item in found.values():
        assert sum(item.probabilities) == pytest.approx(1)
        assert len(item.probabilities) == NAMES[name]
        assert item.predicted in item.prediction_set
    assert "position" in found["left knee"].subject.side_source


@pytest.mark.parametrize("name", list(NAMES))
def test_monochrome1_and_a_mirrored_left_knee_give_the_same_answer(name: str) -> None:
    made = knee_radiograph(92, 1, marker=False)
    kept = {}
    for key, pixels, header in (
        ("plain", made.image, {"laterality": "R"}),
        ("monochrome1", made.image, {"laterality": "R", "monochrome1": True}),
        ("left", np.ascontiguousarray(made.image[:, ::-1]), {"laterality": "L"}),
    ):
        (item,) = answers(findings(name, pixels, made.spacing_mm, **header)).values()
        assert item.subject.side is Side(str(header["laterality"]))
        kept[key] = item.probabilities
    assert kept["monochrome1"] == pytest.approx(kept["plain"], abs=1e-3)
    # the finder does not find a mirrored knee at exactly the mirrored place
    assert kept["left"] == pytest.approx(kept["plain"], abs=0.15)


@pytest.mark.parametrize("name", list(NAMES))
def test_the_heatmap_lies_inside_the_square_around_the_joint(name: str) -> None:
    made = knee_radiograph(93, 0, "L")
    (map_,) = saliencies(findings(name, made.image, made.spacing_mm, laterality="L"))
    values = np.asarray(map_.map)
    assert values.shape == made.image.shape
    row, column, size = made.joints[0].crop
    top, left = (round(n - 0.55 * size) for n in (row, column))
    inside = values[max(0, top) : round(top + 1.1 * size), max(0, left) : round(left + 1.1 * size)]
    assert np.nansum(inside) > 0.99 * np.nansum(values)


@pytest.mark.parametrize("name", [*NAMES, "knee_kl_ensemble"])
def test_a_hip_and_a_knee_with_a_prosthesis_are_not_evaluated(name: str) -> None:
    hip = hip_radiograph(103, "none", spacing_mm=0.5).image
    assert refusals(findings(name, hip, 0.5, laterality="R")) == ["nothing-found"]
    made = knee_radiograph(94, 0, spacing_mm=0.4)
    row, column, size = (round(n) for n in made.joints[0].crop)
    metal = made.image.copy()
    half = size // 5
    metal[row - half : row, column - half : column + half] = 4095  # one femoral component
    told = refusals(findings(name, metal, made.spacing_mm, laterality="R"))
    assert told in (["metal"], ["nothing-found"])


@pytest.mark.parametrize("name", list(NAMES))
def test_a_real_radiograph_s_size_and_margins_change_nothing(name: str, shared: Path) -> None:
    """The shortcut of the published set: the same knee in a taller frame gets the same answer."""
    source = shared / "knee_osteoporosis" / "images" / "006c89d3b8f9e246.jpg"
    parts = build_parts(load_bundle(BUILT_IN / name), torch.device("cpu"))
    with Image.open(source) as opened:
        pixels = np.asarray(opened.convert("L"), np.float32) / 255
    told = []
    for image in (pixels, np.pad(pixels, ((200, 90), (60, 0)))):
        tensor = torch.from_numpy(image[None])
        (target,) = parts.locator(tensor, {})  # type: ignore[misc, arg-type]
        left, top, width, height = target.box
        cut = tensor[:, top : top + height, left : left + width]
        data = parts.preprocessing({"image": cut, "target": target, "attributes": {}})
        with torch.inference_mode():
            out = parts.network(torch.as_tensor(data["image"])[None])
        told.append(parts.postprocessing({**data, "pred": out[0]})["probabilities"])
    assert told[0] == pytest.approx(told[1], abs=0.05)
