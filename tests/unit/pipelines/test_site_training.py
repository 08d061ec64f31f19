"""The hip and the lumbar pipeline on a site's own folder, by the node's command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from dicom_node.inference.bundles import BUILT_IN, find_bundles, load_bundle
from dicom_node.inference.parts import build_parts
from dicom_node.training.contract import Training
from pipelines.hip_fixation_device.data import LABELS
from pipelines.lumbar_bmd_ct import site as lumbar_site
from tests.unit.cli.command import dicom_node

torch.set_num_threads(1)


@pytest.fixture
def hips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["file,label,split"]
    folder = tmp_path / "hips"
    folder.mkdir()
    for number, label in enumerate(LABELS * 3):
        split = ("train", "val", "test")[number // len(LABELS)]
        pixels = rng.integers(0, 60000, (80, 60)).astype(np.uint16)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{label},{split}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_hips_are_trained_resumed_and_evaluated(hips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["pipelines", "train", "hip_fixation_device", "--data", hips, "--output", run,
               "--device", "cpu", "--set", "batch=2"]  # fmt: skip
    ended = dicom_node(*command, "--set", "steps=2")
    assert ended.status == 0, ended.err
    again = dicom_node(*command, "--set", "steps=3", "--resume")
    assert again.status == 0, again.err
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 3
    weights = run / "weights.safetensors"
    with safe_open(weights, "pt") as opened:
        numbers = json.loads(opened.metadata()["calibration"])
    bundle = load_bundle(BUILT_IN / "hip_fixation_device", weights)
    answer = build_parts(bundle, torch.device("cpu")).postprocessing.transforms[0]  # type: ignore[attr-defined]
    assert numbers["postprocessing::transforms::0::most_not_ap"] == answer.most_not_ap
    told = dicom_node(
        "pipelines", "evaluate", "hip_fixation_device", "--data", hips, "--weights", weights,
        "--json", tmp_path / "f.json",
    )  # fmt: skip
    assert told.status == 0, told.err
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["n"] + found["not_evaluated"]["n"] == len(LABELS) - 1
    assert found["to_be_refused"]["n"] == 1
    assert "quadratic_kappa" not in found


def test_images_that_are_all_refused_are_told_with_the_reason(hips: Path) -> None:
    ended = dicom_node("pipelines", "evaluate", "hip_fixation_device", "--data", hips)
    assert ended.status == 1
    assert "evaluated none of its 9 images" in ended.err
    assert "not an AP view of the hip" in ended.err


@pytest.mark.parametrize("verb", ["evaluate", "train"])
def test_a_folder_without_labelled_ct_is_told(tmp_path: Path, verb: str) -> None:
    more = ("--output", tmp_path / "run") if verb == "train" else ()
    ended = dicom_node("pipelines", verb, "lumbar_bmd_ct", "--data", tmp_path, *more)
    assert ended.status == 1
    assert "no labelled CT: ct.nii.gz" in ended.err


def test_a_resumed_lumbar_training_keeps_the_finished_locator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watch:
        def note(self, text: str) -> None: ...
        def step(self, share: float, loss: float) -> None: ...
        def epoch(self, number: int, figures: object) -> None: ...

    bundle = find_bundles()["lumbar_bmd_ct"]
    trainings: list[str] = []
    monkeypatch.setattr(lumbar_site, "_labelled", lambda _: [])
    monkeypatch.setattr(lumbar_site, "train_locator", lambda *_: trainings.append("locator"))
    monkeypatch.setattr(lumbar_site, "train_bmd", lambda *_: trainings.append("bmd"))
    monkeypatch.setattr(lumbar_site, "build_bank", lambda _: None)
    from dicom_node.training.entries import settings_of, trainer_of

    settings = settings_of(bundle, ["locator::phantoms=0", "bmd::phantoms=0"], 3)
    for resume in (False, True):
        asked = Training(
            bundle, tmp_path, tmp_path, settings, resume, None, torch.device("cpu"), Watch()
        )
        done = trainer_of(bundle)(asked)
    assert trainings == ["locator", "bmd", "bmd"]
    build_parts(load_bundle(bundle.folder, done.weights), torch.device("cpu"))
