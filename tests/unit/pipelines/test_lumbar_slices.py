from __future__ import annotations

import numpy as np
import pytest
import torch

from dicom_node.model.targets import Target
from pipelines.transforms.lumbar_hu import bmd_of_hu, hu_of_bmd
from pipelines.transforms.lumbar_locator import LumbarLocator
from pipelines.transforms.lumbar_slices import (
    LumbarBMDd,
    LumbarSlicesd,
    PlausibleRegion,
    axial_crop,
)
from tests.unit.pipelines.lumbar_cases import TruthFinder, image_of, phantom


def _prepared(level: str = "L3") -> dict:  # type: ignore[type-arg]
    made = phantom(3)
    image = image_of(made)
    target = next(t for t in LumbarLocator(TruthFinder(made))(image, {}) if t.name == level)
    return LumbarSlicesd()({"image": image, "target": target, "attributes": {}})


def test_relation_inverts_and_matches_the_publication() -> None:
    assert bmd_of_hu(100.0) == pytest.approx(87.8)
    assert bmd_of_hu(hu_of_bmd(63.0)) == pytest.approx(63.0)


def test_a_crop_looks_the_same_however_the_volume_is_stored() -> None:
    made = phantom(3)
    volume = torch.from_numpy(made.volume.astype(np.float32))
    row, column, index = made.truth.centres["L3"]
    plain = axial_crop(volume, made.affine, (row, column), round(index))
    affine = made.affine.copy()
    affine[:3, :2] *= -1
    turned = axial_crop(
        torch.flip(volume, [0, 1]),
        affine,
        (volume.shape[0] - 1 - row, volume.shape[1] - 1 - column),
        round(index),
    )
    assert torch.allclose(plain, turned, atol=0.5)


def test_the_spine_is_in_the_middle_and_the_canal_behind_it() -> None:
    made = phantom(3)
    row, column, index = made.truth.centres["L3"]
    crop = axial_crop(
        torch.from_numpy(made.volume.astype(np.float32)), made.affine, (row, column), round(index)
    )[0]
    assert crop.shape == (80, 80)
    body, canal = crop[36:44, 36:44].mean(), crop[58:62, 38:42].mean()
    assert body > canal + 40


def test_outside_the_image_is_air() -> None:
    crop = axial_crop(torch.full((20, 20, 5), 40.0), np.diag([-1.0, -1.0, 1.0, 1.0]), (0.0, 0.0), 2)
    assert float(crop[0, 0, 0]) == -1000.0


def test_preprocessing_stacks_the_slices_and_measures_the_region() -> None:
    data = _prepared()
    assert data["batched"] is True
    assert data["image"].shape == (len(data["target"].slices), 1, 80, 80)
    assert data["hu"] == pytest.approx(phantom(3).truth.hu["L3"], abs=12)
    assert data["roi_ml"] > 3


def test_postprocessing_joins_the_slices_and_their_doubt() -> None:
    data = _prepared()
    count = len(data["target"].slices)
    pred = torch.stack([torch.tensor([100.0 + 2 * k, np.log(16.0)]) for k in range(count)])
    out = LumbarBMDd()({**data, "pred": pred})
    assert out["bmd"] == pytest.approx(100 + count - 1)
    assert out["bmd_sd"] == pytest.approx(float((16 + pred[:, 0].var()) ** 0.5), rel=1e-4)
    assert out["roi"].shape == (count, *phantom(3).volume.shape[:2])
    assert out["roi"].any((1, 2)).all()


def test_a_t_score_is_given_only_against_a_configured_reference() -> None:
    data = _prepared()
    pred = torch.tensor([[90.0, 2.0]] * len(data["target"].slices))
    assert "t_score" not in LumbarBMDd()({**data, "pred": pred})
    told = LumbarBMDd(reference={"mean": 165.0, "sd": 30.0})({**data, "pred": pred})
    assert told["t_score"] == pytest.approx(-2.5)
    with pytest.raises(ValueError, match="positive"):
        LumbarBMDd(reference={"mean": 165.0, "sd": 0.0})


def test_the_linear_relation_may_stand_in_for_the_network() -> None:
    data = _prepared()
    wrong = torch.full((len(data["target"].slices), 2), 3.0)
    out = LumbarBMDd(linear=True)({**data, "pred": wrong})
    assert out["bmd"] == out["hu_bmd"] == pytest.approx(0.7 * data["hu"] + 17.8)
    assert out["bmd_sd"] == pytest.approx(0.7 * data["hu_sd"])


@pytest.mark.parametrize(("hu", "refused"), [(-120.0, True), (110.0, False), (700.0, True)])
def test_an_implausible_region_is_not_evaluated(hu: float, refused: bool) -> None:
    verdict = PlausibleRegion()({"hu": hu, "target": Target(name="L2")})
    assert (verdict is not None) is refused
