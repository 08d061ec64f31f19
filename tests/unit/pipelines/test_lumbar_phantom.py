from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipelines.phantoms.lumbar_spine import LEVELS
from tests.unit.pipelines.lumbar_cases import phantom


def _trabecular_hu(made, level: str) -> float:  # type: ignore[no-untyped-def]
    mask = made.truth.labels == LEVELS.index(level) + 1
    return float(made.volume[ndimage.distance_transform_edt(mask, made.spacing) > 4.5].mean())


@pytest.mark.parametrize("bmd", [50.0, 170.0])
def test_trabecular_hu_follows_the_bmd_that_was_asked_for(bmd: float) -> None:
    made = phantom(3, bmd)
    for level in ("L1", "L2", "L3", "L4"):
        assert _trabecular_hu(made, level) == pytest.approx(made.truth.hu[level], abs=12)
        assert made.truth.bmd[level] == pytest.approx(bmd, abs=15)


def test_same_seed_gives_the_same_volume_and_another_seed_another() -> None:
    first, again = phantom(3), phantom.__wrapped__(3)
    assert np.array_equal(first.volume, again.volume)
    assert not np.array_equal(first.volume, phantom(4).volume)


def test_levels_are_stacked_from_the_sacrum_to_the_head() -> None:
    centres = phantom(3).truth.centres
    heights = [centres[name][2] for name in ("S1", "L5", "L4", "L3", "L2", "L1", "T12")]
    assert heights == sorted(heights)


def test_each_centre_lies_in_its_own_label() -> None:
    made = phantom(3)
    for name, centre in made.truth.centres.items():
        voxel = tuple(round(c) for c in centre)
        assert made.truth.labels[voxel] == LEVELS.index(name) + 1


def test_affine_says_supine_head_first() -> None:
    affine = phantom(3).affine
    assert affine[1, 0] < 0
    assert affine[0, 1] < 0
    assert affine[2, 2] > 0


def test_the_sacrum_can_lie_below_the_volume() -> None:
    assert "S1" not in phantom(3, bottom_mm=60.0).truth.centres


def test_screws_are_metal_at_their_level_only() -> None:
    made = phantom(3, metal_level="L3")
    slices = np.flatnonzero((made.volume > 2500).any((0, 1)))
    centres = made.truth.centres
    assert slices.size
    assert centres["L4"][2] < slices.min()
    assert slices.max() < centres["L2"][2]


def test_contrast_brightens_the_aorta() -> None:
    plain, enhanced = phantom(3), phantom(3, enhancement_hu=120.0)
    row, column, index = (round(c) for c in plain.truth.centres["L3"])
    front = slice(row - 16, row - 8), slice(column, column + 9), index
    assert enhanced.volume[front].max() > plain.volume[front].max() + 80
