from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from dicom_node.model.targets import Rejection, Target
from pipelines.phantoms.lumbar import lumbar_ct
from pipelines.phantoms.lumbar_spine import LEVELS
from pipelines.transforms.lumbar_locator import LumbarLocator
from tests.unit.pipelines.lumbar_cases import COARSE, TruthFinder, image_of, phantom

torch.set_num_threads(1)


def _locate(made, attributes=None, **limits):  # type: ignore[no-untyped-def]
    return LumbarLocator(TruthFinder(made), **limits)(image_of(made), attributes or {})


def _only(found: list[Target | Rejection]) -> Rejection:
    assert len(found) == 1
    assert isinstance(found[0], Rejection)
    return found[0]


def test_four_levels_are_found_at_their_true_places() -> None:
    made = phantom(3)
    found = _locate(made)
    assert [t.name for t in found] == ["L1", "L2", "L3", "L4"]
    for target in found:
        assert target.rejection is None
        error = np.subtract(target.extras["centre"], made.truth.centres[target.name])
        assert np.linalg.norm(error * made.spacing) < 6


def test_the_body_mask_overlaps_the_true_body() -> None:
    made = phantom(3)
    for target in _locate(made):
        truth = made.truth.labels == LEVELS.index(target.name) + 1
        mask = np.zeros_like(truth)
        offset, body = target.extras["offset"], target.extras["body"]
        mask[tuple(slice(o, o + n) for o, n in zip(offset, body.shape, strict=True))] = body
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85


def test_the_region_lies_inside_the_body_and_on_the_slices_that_are_read() -> None:
    for target in _locate(phantom(3)):
        roi, body = target.extras["roi"], target.extras["body"]
        assert roi.any()
        assert not (roi & ~body).any()
        for index in target.slices:
            assert roi[:, :, index - target.extras["offset"][2]].any()
        assert len(target.slices) <= 7


def test_orientation_of_the_array_does_not_change_the_levels() -> None:
    made = phantom(3)
    image = image_of(made)
    affine = made.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (made.volume.shape[1] - 1)
    affine[:3, 1] *= -1
    mirrored = MetaTensor(torch.flip(torch.as_tensor(image), [2]), affine=torch.from_numpy(affine))
    locator = LumbarLocator(TruthFinder(made))
    width = made.volume.shape[1]
    for a, b in zip(locator(image, {}), locator(mirrored, {}), strict=True):
        row, column, index = b.extras["centre"]
        assert (row, width - 1 - column, index) == pytest.approx(a.extras["centre"], abs=0.01)


IOHEXOL = {"value": "709080004", "scheme": "SCT", "meaning": "Iohexol"}


@pytest.mark.parametrize(
    "header",
    [
        {"ContrastBolusAgent": "Ultravist 370"},
        {"ContrastBolusAgent": ["NONE", "Iomeron"]},
        {"ContrastBolusAgentSequence": [IOHEXOL]},
        {"ContrastBolusVolume": 90.0},
    ],
)
def test_a_contrast_agent_in_the_header_is_refused(header: dict[str, Any]) -> None:
    assert _only(_locate(phantom(3), header)).reason.value == "contrast-given"


@pytest.mark.parametrize("none", ["NONE", "ohne KM", "w/o contrast", "N/A", "sans injection"])
def test_a_header_that_says_no_contrast_is_read(none: str) -> None:
    assert len(_locate(phantom(3), {"ContrastBolusAgent": none})) == 4


def test_bright_vessels_are_refused_without_a_word_in_the_header() -> None:
    assert _only(_locate(phantom(3, enhancement_hu=110.0))).reason.value == "contrast-given"


def test_thick_slices_are_refused_by_spacing_and_by_header() -> None:
    thick = phantom(3, spacing=(2.4, 2.4, 7.5), slices=40)
    assert _only(_locate(thick)).reason.value == "slices-too-thick"
    assert _only(_locate(phantom(3), {"SliceThickness": 10.0})).reason.value == "slices-too-thick"


def test_too_few_slices_are_refused() -> None:
    made = phantom(3, slices=12)
    refused = LumbarLocator(TruthFinder(made)).check_series(made.volume.shape, made.affine, {})
    assert refused is not None
    assert refused.reason.value == "too-few-slices"


def test_a_coronal_volume_is_refused() -> None:
    made = phantom(3)
    affine = made.affine[:, [2, 1, 0, 3]]
    refused = LumbarLocator(TruthFinder(made)).check_series((100, 160, 160), affine, {})
    assert refused is not None
    assert refused.reason.value == "not-axial"


def test_metal_refuses_its_level_and_leaves_the_others() -> None:
    found = {t.name: t for t in _locate(phantom(3, metal_level="L3"))}
    assert found["L3"].rejection is not None
    assert found["L3"].rejection.reason.value == "metal"
    assert found["L1"].rejection is None


def test_without_the_sacrum_the_level_is_uncertain() -> None:
    made = phantom(3, bottom_mm=40.0, slices=80)
    refused = _only(_locate(made))
    assert refused.reason.value == "level-uncertain"
    assert "sacrum" in refused.text


def test_without_the_last_rib_the_level_is_uncertain() -> None:
    refused = _only(_locate(phantom(3, slices=68)))
    assert refused.reason.value == "level-uncertain"
    assert "rib" in refused.text


def test_a_level_above_the_volume_is_out_of_view_where_ribs_are_not_asked_for() -> None:
    made = phantom(3, slices=68)
    locator = LumbarLocator(TruthFinder(made), check_ribs=False)
    found = {t.name: t for t in locator(image_of(made), {}) if isinstance(t, Target)}
    assert found["L1"].rejection is not None
    assert found["L1"].rejection.reason.value == "out-of-view"
    assert found["L4"].rejection is None


@pytest.mark.parametrize(("lowest", "says"), [("T11", "no rib"), ("L1", "bears a rib")])
def test_a_transition_of_the_spine_makes_the_level_uncertain(lowest: str, says: str) -> None:
    refused = _only(_locate(phantom(3, lowest_rib=lowest)))
    assert refused.reason.value == "level-uncertain"
    assert says in refused.text


def test_a_wedged_vertebra_is_refused_and_the_others_are_not() -> None:
    made = lumbar_ct(3, 110.0, **COARSE, wedge={"L2": 0.45})  # type: ignore[arg-type]
    found = {t.name: t for t in _locate(made)}
    assert found["L2"].rejection is not None
    assert found["L2"].rejection.reason.value == "fracture-susp"
    assert all(found[level].rejection is None for level in ("L1", "L3", "L4"))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"ConvolutionKernel": "LUNG"}, "unfit-kernel"),
        ({"ConvolutionKernel": ["Br64d", "3"]}, "unfit-kernel"),
        ({"KVP": 80.0}, "unfit-voltage"),
        ({"ConvolutionKernel": "B30f", "KVP": 120.0}, None),
        ({"ConvolutionKernel": "FC08", "KVP": 0}, None),
        ({"ConvolutionKernel": "STANDARD"}, None),
    ],
)
def test_kernel_and_tube_voltage_are_read(header: dict[str, Any], reason: str | None) -> None:
    made = phantom(3)
    refused = LumbarLocator(TruthFinder(made)).check_series((160, 160, 100), made.affine, header)
    assert (None if refused is None else refused.reason.value) == reason
