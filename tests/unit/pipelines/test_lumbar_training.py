from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pipelines.lumbar_bmd_ct.anatomy import Anatomy, load_folder
from pipelines.lumbar_bmd_ct.bmd_training import Bank, build_bank, simulate, train_bmd
from pipelines.lumbar_bmd_ct.figures import agreement, roc
from pipelines.lumbar_bmd_ct.locator_training import WINDOW, prepare, sample
from pipelines.networks.lumbar import SliceBMD
from pipelines.transforms.lumbar_hu import hu_of_bmd
from tests.unit.pipelines.lumbar_cases import phantom

torch.set_num_threads(1)


def _anatomy() -> Anatomy:
    made = phantom(3)
    return Anatomy("p", made.volume.astype(np.float32), made.spacing, made.truth.labels, False, {})


@pytest.fixture(scope="module")
def bank() -> Bank:
    return build_bank([_anatomy()])


@pytest.mark.parametrize("bmd", [40.0, 120.0, 200.0])
def test_simulated_images_have_the_hu_of_the_drawn_bmd(bank: Bank, bmd: float) -> None:
    chosen = torch.arange(len(bank.hu))
    images = simulate(
        bank, chosen, torch.full((len(chosen),), bmd), torch.Generator().manual_seed(1), False
    )
    middle = images[:, 0, 36:44, 36:44].mean()
    assert float(middle) == pytest.approx(hu_of_bmd(bmd), abs=15)


def test_an_image_of_known_bmd_is_left_as_it_is(bank: Bank) -> None:
    chosen = torch.arange(4)
    measured = dataclasses.replace(bank, known=torch.full_like(bank.known, 90.0))
    images = simulate(measured, chosen, torch.full((4,), 90.0), torch.Generator(), False)
    middle = slice(36, 44)
    was = bank.hu[chosen][:, 59:69, 59:69].mean()
    assert float(images[:, 0, middle, middle].mean()) == pytest.approx(float(was), abs=5)


def test_a_short_training_halves_the_error(bank: Bank) -> None:
    torch.manual_seed(0)
    lines: list[str] = []
    network = SliceBMD((4, 8, 8, 8))
    rng = torch.Generator().manual_seed(5)
    chosen = torch.randint(len(bank.hu), (40,), generator=rng)
    bmd = torch.linspace(20, 235, 40)
    images = simulate(bank, chosen, bmd, rng)
    train_bmd(network, bank, 120, 60, 0, batch=16, log=lines.append)
    with torch.no_grad():
        error = (network(images)[:, 0] - bmd).abs().mean()
    assert float(error) < 0.5 * float((bmd - bmd.mean()).abs().mean())
    assert lines


def test_locator_windows_show_bodies_and_keep_targets_in_range() -> None:
    rng = np.random.default_rng(0)
    ready = prepare(_anatomy())
    seen = 0.0
    for _ in range(4):
        hu, target = sample(ready, False, rng)
        assert hu.shape == (1, *WINDOW)
        assert target.shape == (3, *WINDOW)
        assert float(target.min()) >= 0
        assert float(target.max()) <= 1
        inside = hu[0][target[0] > 0.9]
        seen += len(inside)
        if len(inside) > 50:
            assert float(inside.mean()) > 20
    assert seen > 100


def test_an_empty_folder_is_told_so(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileNotFoundError, match=r"no labelled CT"):
        load_folder(tmp_path)


def test_agreement_and_roc_of_a_known_case() -> None:
    true = np.array([60.0, 70, 90, 110, 130, 150])
    found = true + np.array([4.0, -4, 4, -4, 4, -4])
    numbers = agreement(true, found, np.full(6, 4.5))
    assert numbers["bias"] == pytest.approx(0)
    assert numbers["rmse"] == pytest.approx(4)
    assert numbers["within_1_sd"] == 1.0
    assert roc(true, found, 80.0) == {
        "auc": 1.0,
        "positives": 2,
        "n": 6,
        "sensitivity": 1.0,
        "specificity": 1.0,
    }
