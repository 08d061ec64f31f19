"""The search glimpses at the whole, and finds what looking at every tile finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from pipelines.networks.knee_finder import KneeFinder
from pipelines.phantoms.hip import hip_radiograph
from pipelines.phantoms.knee import knee_radiograph
from pipelines.transforms import knee_search
from pipelines.transforms.knee_search import find_joints

torch.set_num_threads(1)


class Counting(torch.nn.Module):
    """A finder that counts the pixels that it is shown."""

    def __init__(self, finder: torch.nn.Module) -> None:
        super().__init__()
        self.finder = finder
        self.pixels = 0

    def forward(self, image: torch.Tensor, every: int = 1) -> torch.Tensor:
        self.pixels += image.numel()
        found: torch.Tensor = self.finder(image, every=every)
        return found


@pytest.fixture(scope="module")
def finder() -> torch.nn.Module:
    bundle = load_bundle(BUILT_IN / "knee_kl_ensemble")
    parts = build_parts(bundle, torch.device("cpu"), folded=True, channels_last=True)
    return parts.network.get_submodule("finder")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("seed", "both"), [(511, False), (512, True)])
def test_the_joints_are_those_of_a_search_of_every_tile_for_half_of_the_work(
    finder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, seed: int, both: bool, known: bool
) -> None:
    made = knee_radiograph(seed, seed % 5, left_grade=2 if both else None, spacing_mm=0.4)
    pixels = made.image.astype(np.float32) / 4095
    spacing = made.spacing_mm if known else None
    quick, thorough = Counting(finder), Counting(finder)
    found = find_joints(pixels, quick, spacing=spacing)
    monkeypatch.setattr(knee_search, "_FEW", 10**6)
    expected = find_joints(pixels, thorough, spacing=spacing)
    assert len(found) == len(expected) == 1 + both
    for joint, other in zip(found, expected, strict=True):
        assert abs(joint.row - other.row) < 0.01 * other.size
        assert abs(joint.column - other.column) < 0.01 * other.size
        assert joint.size == pytest.approx(other.size, rel=0.02)
    assert quick.pixels < thorough.pixels / 2


def test_what_holds_no_knee_is_looked_at_again_and_still_holds_none(
    finder: torch.nn.Module,
) -> None:
    hip = hip_radiograph(601, "none", spacing_mm=0.5).image.astype(np.float32) / 4095
    assert find_joints(hip, finder, spacing=0.5) == []


def test_a_large_film_gives_the_joint_of_the_small_one(finder: torch.nn.Module) -> None:
    """Block means come before the reduction of a large film; the answer is the same."""
    made = knee_radiograph(513, 1, spacing_mm=0.4)
    small = made.image.astype(np.float32) / 4095
    (one,) = find_joints(small, finder, spacing=made.spacing_mm)
    (other,) = find_joints(np.kron(small, np.ones((4, 4), np.float32)), finder, spacing=0.1)
    assert abs(other.row / 4 - one.row) < 0.02 * one.size
    assert abs(other.column / 4 - one.column) < 0.02 * one.size
    assert other.size / 4 == pytest.approx(one.size, rel=0.03)


def test_a_bright_frame_is_blanked_in_a_copy() -> None:
    pixels = np.full((200, 100), 0.5, np.float32)
    assert knee_search._without_border(pixels) is pixels
    pixels[:4] = 1
    blanked = knee_search._without_border(pixels)
    assert blanked[:4].max() == 0
    assert pixels[:4].min() == 1


@pytest.mark.parametrize("every", [2, 3])
def test_the_finder_leaves_windows_out_and_changes_none(every: int) -> None:
    torch.manual_seed(1)
    finder = KneeFinder().eval()
    image = torch.rand(1, 1, 104, 84)
    with torch.inference_mode():
        whole, part = finder(image), finder(image, every=every)
    assert torch.allclose(part, whole[..., ::every, ::every], atol=1e-6)
