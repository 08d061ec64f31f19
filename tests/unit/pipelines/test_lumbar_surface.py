from __future__ import annotations

import numpy as np
import pytest

from pipelines.transforms.lumbar_surface import fit_surface

SPACING = np.array([1.5, 1.5, 3.0])
AXIS = np.array([0.0, 0.0, 1.0])


def _body(radius: float, half: float, trabecular: float, cortex: float) -> tuple[np.ndarray, ...]:
    """A drum with a shell in soft tissue: HU, distance from the axis, height."""
    shape = (60, 60, 26)
    at = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, SPACING, strict=True)]
    y, x, z = np.meshgrid(*at, indexing="ij")
    r = np.hypot(x, y)
    hu = np.full(shape, 45.0, np.float32)
    inside = (r <= radius) & (np.abs(z) <= half)
    shell = inside & ((r > radius - 1.6) | (np.abs(z) > half - 2.5))
    hu[inside] = trabecular
    hu[shell] = cortex
    hu += np.random.default_rng(0).normal(0, 8, shape).astype(np.float32)
    return hu, r, z


@pytest.mark.parametrize("trabecular", [20.0, 110.0, 200.0])
@pytest.mark.parametrize("wrong_by", [-2.5, 3.5])
def test_a_guess_of_the_wrong_size_is_drawn_to_the_cortex(
    trabecular: float, wrong_by: float
) -> None:
    hu, r, z = _body(20.0, 12.0, trabecular, 420.0)
    blob = (r <= 20 + wrong_by) & (np.abs(z) <= 12 + wrong_by)
    truth = (r <= 20) & (np.abs(z) <= 12)
    fitted = fit_surface(hu, blob, SPACING, AXIS) >= 0

    def dice(mask: np.ndarray) -> float:
        return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))

    assert dice(fitted) > 0.9
    assert dice(fitted) > dice(blob) + 0.05


def test_where_there_is_no_edge_the_guess_stays() -> None:
    hu, r, z = _body(20.0, 12.0, 45.0, 45.0)
    blob = (r <= 20) & (np.abs(z) <= 12)
    fitted = fit_surface(hu, blob, SPACING, AXIS) >= 0
    assert 2 * (fitted & blob).sum() / (fitted.sum() + blob.sum()) > 0.9


def test_an_empty_guess_stays_empty() -> None:
    hu, r, _ = _body(20.0, 12.0, 100.0, 400.0)
    assert not (fit_surface(hu, r < 0, SPACING, AXIS) >= 0).any()


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_depth_is_that_of_the_surface_however_coarse_the_scan(step: float) -> None:
    spacing = np.array([step, step, step])
    shape = tuple(int(n / step) for n in (66, 66, 46))
    at = [(np.arange(n) - (n - 1) / 2) * step for n in shape]
    y, x, z = np.meshgrid(*at, indexing="ij")
    r = np.hypot(x, y)
    hu = np.where((r <= 20) & (np.abs(z) <= 13), 420.0, 45.0)
    hu[(r <= 18) & (np.abs(z) <= 11)] = 120.0
    depth = fit_surface(hu.astype(np.float32), (r <= 21) & (np.abs(z) <= 13), spacing, AXIS)
    inside = (r < 12) & (r > 6) & (np.abs(z) < 3)
    assert float(np.abs(depth - (20 - r))[inside & (20 - r < 9)].mean()) < 0.5 * step + 0.6
