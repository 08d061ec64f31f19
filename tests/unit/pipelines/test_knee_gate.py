"""The gate of the knee pipelines: metal and missing contrast, on simulated and real crops."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.knee_kl_ensemble.phantoms import phantom_crop
from pipelines.phantoms.knee import knee_radiograph
from pipelines.transforms.knee_gate import MOST_STEP, KneeGate, at_scale, metal_step


def crop_of(seed: int) -> np.ndarray:
    made = knee_radiograph(seed, seed % 5, spacing_mm=0.4)
    return phantom_crop(made, made.joints[0], 224).astype(np.float32) / 255


def reason(crop: np.ndarray) -> str | None:
    rejection = KneeGate()({"image": torch.from_numpy(crop[None].astype(np.float32))})
    return None if rejection is None else rejection.reason.value


@pytest.mark.parametrize("seed", range(70, 74))
def test_a_plain_knee_passes_whatever_its_exposure(seed: int) -> None:
    crop = crop_of(seed)
    assert reason(crop) is None
    assert reason(0.6 + 0.2 * crop) is None
    assert reason(crop**2) is None


def test_a_component_of_metal_is_told() -> None:
    crop = crop_of(75)
    crop[60:130, 50:110] = 1.0
    assert reason(crop) == "metal"


def test_thin_bright_wires_and_small_markers_are_not_metal_in_the_joint() -> None:
    crop = crop_of(76)
    crop[:, 40:42] = 1.0
    crop[20:30, 180:195] = 1.0
    assert reason(crop) is None


def test_an_exposure_that_shows_nothing_is_unreadable() -> None:
    rng = np.random.default_rng(1)
    assert reason(0.98 + rng.normal(0, 0.005, (224, 224))) == "unreadable"
    assert reason(np.zeros((90, 90))) == "unreadable"


def test_real_knees_pass_and_found_prostheses_mostly_do_not(shared: Path) -> None:
    """40 of the test crops; and five prostheses, cut out as the finder cuts them out."""
    with (shared / "knee_kl" / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row["file"] for row in csv.DictReader(file) if row["split"] == "test"]
    steps = []
    for name in rows[:: len(rows) // 40][:40]:
        with Image.open(shared / "knee_kl" / name) as image:
            pixels = np.asarray(image.convert("L"), np.float32) / 255
        assert reason(pixels) is None
        steps.append(metal_step(at_scale(torch.from_numpy(pixels[None]))))
    assert max(steps) < MOST_STEP
    assert np.median(steps) < 0.25
