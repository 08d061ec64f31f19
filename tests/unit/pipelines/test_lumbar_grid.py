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


@settings(deadline=None)
@given(low=st.integers(0, 20), flip=st.booleans(), degrees=st.sampled_from([0.0, 2.0, 10.0, -25.0]))
def test_source_and_grid_indices_invert_each_other(low: int, flip: bool, degrees: float) -> None:
    grid = ras_grid(
        torch.zeros(33, 33, 33), _leaning(degrees) @ np.diag([1, -1 if flip else 1, 1, 1]), 4.0
    )
    first, last = np.array([low, low, low]), np.array([low + 3, low + 2, low + 4])
    points = np.moveaxis(grid.from_source(first, last), 0, -1)
    back = grid.to_source(points)
    order = np.argsort(grid.order)
    expected = np.stack(np.meshgrid(*map(np.arange, first, last), indexing="ij"), -1)
    assert np.transpose(back, (*order, 3)) == pytest.approx(expected, abs=1e-6)


def _leaning(degrees: float) -> np.ndarray:
    """Affine of 1 mm voxels whose second and third axes are turned about the first."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[1:3, 1:3] = [[cos, -sin], [sin, cos]]
    return affine


@pytest.mark.parametrize("degrees", [-20.0, 8.0, 25.0])
def test_oblique_slices_are_turned_upright(degrees: float) -> None:
    """A column upright in the patient is upright in the grid, and stands where it stands."""
    affine = _leaning(degrees)
    places = np.moveaxis(np.indices((48, 60, 72)), 0, -1) @ affine[:3, :3].T
    middle = places.reshape(-1, 3).mean(0)
    inside = np.hypot(*(places - middle)[..., :2].reshape(-1, 2).T).reshape(48, 60, 72) < 8
    volume = torch.from_numpy(np.where(inside, 300.0, -1000.0).astype(np.float32))
    grid = ras_grid(volume, affine, 4.0)
    seen = grid.data.numpy() > -350
    depth = seen.shape[2]
    for height in (round(depth * 0.4), depth // 2, round(depth * 0.6)):
        x, y = np.argwhere(seen[:, :, height]).mean(0)
        at = affine[:3, :3] @ grid.to_source(np.array([x, y, height]))
        assert at[:2] == pytest.approx(middle[:2], abs=2)
    up = grid.direction_to_source(np.array([0.0, 0.0, 1.0]))
    assert affine[:3, :3] @ up == pytest.approx([0, 0, 1], abs=1e-3)


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
