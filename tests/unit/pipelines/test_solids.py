"""Metal parts met by rays: lengths that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.hip_devices import DEVICES, Femur
from pipelines.phantoms.hip_other_metal import NO_DEVICE_METAL, OTHER_METAL, UNSEEN_METAL
from pipelines.phantoms.solids import Ball, Beam, Part, Plate, Ring, Rod, ray_length, shade, turned

Y, X = (g.astype(float) for g in np.mgrid[-30:31, -30:31])
FLAT = Beam(np.eye(3), (0.0, 0.0, 1e6))


@pytest.mark.parametrize(
    ("part", "middle"),
    [
        (Ball((0, 0, 0), 20), 20.0),
        (Ball((0, 0, 0), 20, wall=2), 4.0),
        (Rod((-25, 0, 0), (25, 0, 0), 10), 10.0),
        (Rod((-25, 0, 0), (25, 0, 0), 10, bore=4), 6.0),
        (Plate(((-20.0, 0.0), (20.0, 0.0)), width=16, thickness=5), 16.0),
        (Plate(((-20.0, 0.0), (20.0, 0.0)), 16, 5, holes=(20.0,), hole_diameter=6), 10.0),
        (Ring((0, 0, 0), (0, 1, 0), 15, 4), 8.0),
    ],
)
def test_a_ray_through_the_middle_is_as_long_as_the_solid_is_thick(
    part: Part, middle: float
) -> None:
    assert ray_length(part, X, Y, FLAT)[30, 30] == pytest.approx(middle, abs=0.9)


def test_the_volume_is_kept_however_the_solid_is_turned() -> None:
    rod = Rod((-12.3, 0, 0), (12.3, 0, 0), 21)
    for angles in ((0, 0, 0), (0, 0.7, 0), (0.4, 0.5, 0.6), (0, np.pi / 2, 0)):
        found = ray_length(rod, X, Y, Beam(turned(*angles), (0, 0, 1e6)))
        assert found.sum() == pytest.approx(np.pi * 10.5**2 * 24.6, rel=0.03)


def test_what_lies_nearer_to_the_source_is_enlarged() -> None:
    beam = Beam(np.eye(3), (0.0, 0.0, 1000.0))
    low = ray_length(Ball((0, 0, 0), 20), X, Y, beam) > 0
    high = ray_length(Ball((0, 0, 200), 20), X, Y, beam) > 0
    assert high.sum() / low.sum() == pytest.approx((1000 / 800) ** 2, rel=0.1)


def test_a_thread_and_a_blade_take_metal_away() -> None:
    smooth = ray_length(Rod((-25, 0, 0), (25, 0, 0), 10), X, Y, FLAT).sum()
    thread = ray_length(Rod((-25, 0, 0), (25, 0, 0), 10, pitch=3), X, Y, FLAT).sum()
    blade = ray_length(Rod((-25, 0, 0), (25, 0, 0), 10, wings=4), X, Y, FLAT).sum()
    assert 0.3 * smooth < blade < thread < smooth


def test_overlapping_parts_weaken_less_than_both_and_more_than_one() -> None:
    one, two = Rod((-20, 0, 0), (20, 0, 0), 8), Rod((0, -20, 0), (0, 20, 0), 8)
    both = shade([one, two], X, Y, FLAT)[30, 30]
    single = shade([one], X, Y, FLAT)[30, 30]
    assert single < both < 2 * single


@pytest.mark.parametrize("kind", [*DEVICES, *OTHER_METAL, *NO_DEVICE_METAL, *UNSEEN_METAL])
def test_every_kind_of_metal_lies_in_the_hip_and_weakens_the_rays(kind: str) -> None:
    makers = {**DEVICES, **OTHER_METAL, **NO_DEVICE_METAL, **UNSEEN_METAL}
    y, x = (g.astype(float) for g in np.mgrid[-120:240, -110:80])
    femur = Femur(-47.0, (-0.77, 0.64), (-58.0, -6.0), -63.0)
    for seed in range(4):
        found = shade(makers[kind](femur, np.random.default_rng(seed)), x, y, FLAT)
        assert found.max() > 0.15
        assert 20 < (found > 0).sum() < 0.4 * found.size


@pytest.mark.parametrize("kind", ["none", "other", "twin_nail"])
def test_the_same_seed_makes_the_same_film(kind: str) -> None:
    one, again = (hip_radiograph(8, kind, spacing_mm=1.5).image for _ in range(2))
    np.testing.assert_array_equal(one, again)


def test_kinds_kept_back_are_not_among_those_that_training_sees() -> None:
    assert not set(UNSEEN_METAL) & (set(DEVICES) | set(OTHER_METAL) | set(NO_DEVICE_METAL))
