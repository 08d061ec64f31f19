from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.transforms.lumbar_grid import axes_of, ras_grid

ORDERS = [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)]


def _affine(order: tuple[int, int, int], signs: tuple[int, int, int], spacing: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for world, source in enumerate(order):
        affine[world, source] = signs[world] * spacing
    return affine


@settings(deadline=None, max_examples=40)
@given(
    order=st.sampled_from(ORDERS),
    signs=st.tuples(*[st.sampled_from((-1, 1))] * 3),
    spacing=st.sampled_from((0.7, 1.0, 2.5, 5.0)),
    seed=st.integers(0, 1000),
)
def test_a_bright_block_is_found_where_it_was_whatever_the_orientation(
    order: tuple[int, int, int], signs: tuple[int, int, int], spacing: float, seed: int
) -> None:
    shape = (34, 41, 37)
    rng = np.random.default_rng(seed)
    at = [int(rng.integers(8, n - 8)) for n in shape]
    volume = torch.zeros(shape)
    volume[tuple(slice(a - 3, a + 4) for a in at)] = 1.0
    grid = ras_grid(volume, _affine(order, signs, spacing), 4.0)
    weight = grid.data.numpy()
    centre = np.array([(weight * index).sum() / weight.sum() for index in np.indices(weight.shape)])
    tolerance = max(0.6, 0.5 * max(grid.step))
    assert grid.to_source(centre) == pytest.approx(np.array(at, float), abs=tolerance)


@given(index=st.floats(0, 30), flip=st.booleans())
def test_source_and_grid_indices_invert_each_other(index: float, flip: bool) -> None:
    affine = np.diag([-1.0 if flip else 1.0, 1, 1, 1])
    grid = ras_grid(torch.zeros(33, 33, 33), affine, 4.0)
    inside = grid.from_source_axis(0, np.array([index]))
    back = grid.to_source(np.array([[inside[0], 0.0, 0.0]]))[0, 0]
    assert back == pytest.approx(index, abs=1e-6)


def test_the_mean_survives_the_averaging_of_noise() -> None:
    noise = 100 + 50 * torch.randn(64, 64, 64, generator=torch.Generator().manual_seed(1))
    grid = ras_grid(noise, np.diag([1.0, 1, 1, 1]), 4.0)
    assert float(grid.data.mean()) == pytest.approx(100, abs=1)
    assert float(grid.data.std()) < 10


def test_axes_of_an_axial_supine_scan() -> None:
    affine = np.zeros((4, 4))
    affine[1, 0], affine[0, 1], affine[2, 2], affine[3, 3] = -0.8, -0.8, 3, 1
    assert axes_of(affine) == ((1, 0, 2), (True, True, False))


def test_a_degenerate_affine_is_refused() -> None:
    with pytest.raises(ValueError, match="no length"):
        axes_of(np.zeros((4, 4)))
