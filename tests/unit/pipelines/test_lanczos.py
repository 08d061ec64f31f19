"""Resizing by Lanczos: sharp, in place, within the image's range, and told in the affine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Resized
from scipy.ndimage import zoom

from pipelines.transforms.lanczos import LanczosResized, lanczos

SIZE = (40, 30)


def detailed(rows: int, columns: int) -> torch.Tensor:
    values = np.random.default_rng(5).uniform(0.2, 0.8, (1, rows, columns))
    return torch.from_numpy(values.astype(np.float32))


def test_what_was_magnified_comes_back_and_less_blurred_than_by_monai() -> None:
    image = detailed(*SIZE)
    fine = torch.from_numpy(zoom(image[0].numpy(), 2, order=3, mode="nearest", grid_mode=True))
    data = {"image": fine[None]}
    sharp = LanczosResized("image", SIZE)(data)["image"]
    soft = Resized("image", SIZE, mode="bilinear", anti_aliasing=True)(data)["image"].as_tensor()
    assert (sharp - image).abs().mean() < 0.7 * (soft - image).abs().mean()


@pytest.mark.parametrize("before", [(97, 61), (20, 30), (40, 90)])
def test_nothing_moves_and_no_value_leaves_the_images_range(before: tuple[int, int]) -> None:
    rows = torch.linspace(0, 1, before[0])[:, None].expand(before)
    made = lanczos(torch.stack([rows, (rows > 0.5).float()]), SIZE)
    assert made.shape == (2, *SIZE)
    assert made.dtype == torch.float32
    assert made.min() >= 0
    assert made.max() <= 1
    # pixel centres: the ramp stays a ramp, away from the two ends
    middle = made[0, 5:-5].mean(1)
    expected = (torch.arange(SIZE[0]) + 0.5) * before[0] / SIZE[0] - 0.5
    assert torch.allclose(middle, (expected / (before[0] - 1))[5:-5], atol=0.005)


def test_an_image_of_this_size_is_left_as_it_is() -> None:
    image = detailed(*SIZE)
    assert LanczosResized("image", SIZE)({"image": image})["image"] is image


def test_the_affine_follows_and_other_keys_stay() -> None:
    affine = torch.diag(torch.tensor([0.2, 0.3, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(detailed(80, 90), affine=affine, meta={"of": "a film"})
    out = LanczosResized("image", SIZE)({"image": image, "side": "R"})
    made = out["image"]
    assert isinstance(made, MetaTensor)
    assert made.meta["of"] == "a film"
    assert out["side"] == "R"
    # MONAI's own resizing says where a pixel lies
    told = Resized("image", SIZE, mode="bilinear")({"image": image})["image"].affine
    assert torch.allclose(made.affine, told)
