"""The short way to MONAI's anti-aliased reduction: the same numbers, the same record."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Resized, ScaleIntensityd

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from dicom_node.inference.reduction import QuickResize, reduced, take_the_short_way

torch.set_num_threads(1)
AS_SHIPPED = {"mode": "bilinear", "anti_aliasing": True}


def _image(*shape: int) -> MetaTensor:
    made = torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))
    return MetaTensor(made, affine=torch.diag(torch.tensor([0.2, 0.3, 1.0, 1.0])))


def _both(image: MetaTensor, size: tuple[int, ...], **options: Any) -> tuple[Any, Any]:
    """Return what MONAI's transform makes of an image, and what ours does."""
    plain, quick = (
        Compose([Resized(keys="image", spatial_size=size, **options)]) for _ in range(2)
    )
    assert take_the_short_way(quick) == 1
    return plain({"image": image})["image"], quick({"image": image})["image"]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 801, 797), (224, 224)),
        ((1, 300, 200), (224, 224)),
        ((3, 412, 300), (80, 64)),
        ((1, 100, 500), (224, 224)),
        ((1, 1204, 1003), (256, 256)),
        ((1, 224, 224), (224, 224)),
        ((1, 33, 47), (32, 46)),
        ((1, 64, 64), (1, 1)),
    ],
)
def test_numbers_affine_and_size_are_monai_s(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    image = _image(*shape)
    monai, ours = _both(image, size, **AS_SHIPPED)
    assert ours.shape == monai.shape
    assert ours.dtype == monai.dtype
    assert float((ours - monai).abs().max()) < 1e-5
    assert torch.equal(ours.affine, monai.affine)
    assert image.applied_operations == []


@pytest.mark.parametrize(
    ("shape", "size", "options"),
    [
        ((1, 90, 80), (40, 40), {"mode": "nearest"}),
        ((1, 90, 80), (40, 40), {"mode": "bilinear"}),
        ((1, 90, 80), (40, 40), {**AS_SHIPPED, "anti_aliasing_sigma": 2.0}),
        ((1, 90, 80), (40, 40), {**AS_SHIPPED, "align_corners": True}),
        ((1, 30, 28, 26), (10, 10, 10), {"mode": "trilinear", "anti_aliasing": True}),
    ],
)
def test_what_is_asked_for_otherwise_goes_monai_s_way(
    shape: tuple[int, ...], size: tuple[int, ...], options: dict[str, Any]
) -> None:
    monai, ours = _both(_image(*shape), size, **options)
    assert torch.equal(ours, monai)


def test_it_can_be_undone_as_monai_s_can() -> None:
    image = _image(1, 120, 90)
    restored = []
    for quick in (False, True):
        forth = Compose([Resized(keys="image", spatial_size=(40, 40), **AS_SHIPPED)])
        if quick:
            take_the_short_way(forth)
        back = Invertd(keys="image", transform=forth, orig_keys="image")
        restored.append(back(forth({"image": image}))["image"])
    assert restored[0].shape == restored[1].shape == image.shape
    assert torch.allclose(restored[0], restored[1], atol=1e-5)


def test_an_image_without_meta_data_stays_without() -> None:
    quick = QuickResize((10, 12), mode="bilinear", anti_aliasing=True)
    values = torch.rand(1, 50, 60)
    made = quick(values, mode="bilinear", anti_aliasing=True)
    assert torch.allclose(torch.as_tensor(made), reduced(values, (10, 12)))


def test_resizings_inside_composed_transforms_are_found() -> None:
    inner = Compose([Resized(keys="image", spatial_size=(8, 8)), ScaleIntensityd(keys="image")])
    outer = Compose([inner, Resized(keys="image", spatial_size=(4, 4))])
    assert take_the_short_way(outer) == 2
    assert take_the_short_way(None) == 0


def test_the_engine_takes_the_short_way_and_a_plain_loop_does_not() -> None:
    bundle = load_bundle(BUILT_IN / "hip_fixation_device")
    for quick in (False, True):
        parts = build_parts(bundle, torch.device("cpu"), quick=quick)
        (resized,) = [t for t in parts.preprocessing.transforms if isinstance(t, Resized)]
        assert isinstance(resized.resizer, QuickResize) is quick
