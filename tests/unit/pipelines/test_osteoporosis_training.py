"""From labelled radiographs to weights, figures and a paper's table, in small steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from dicom_node.errors import ConfigError, DataFolderError
from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from dicom_node.training.contract import Training
from dicom_node.training.entries import settings_of, trainer_of
from pipelines.osteoporosis import compare, pretrain
from pipelines.osteoporosis.crossval import cross_validated, trained
from pipelines.osteoporosis.data import UNKNOWN, read_joints, save_joints
from pipelines.osteoporosis.fitting import logits_of, possible_loss
from tests.unit.cli.command import dicom_node
from tests.unit.pipelines.osteoporosis_cases import radiographs, simulated
from tests.unit.training.knees import pictures

torch.set_num_threads(1)
NAME = "knee_osteoporosis_superfluity"


def committed(*changes: str) -> dict[str, Any]:
    """The committed configuration; `start` is emptied, as there is no run to start from."""
    return settings_of(load_bundle(BUILT_IN / NAME), ["start=", *changes], None)


def test_the_committed_configuration_learns_a_planted_texture() -> None:
    """From nothing, with the committed seed and schedule: the last loss is below 0.4."""
    joints = simulated(64)
    network, losses = trained(joints.of(range(48)), 2, committed("batch=8", "rate=0.001"))
    assert losses[-1] < 0.4
    answers = logits_of(network, joints.images[48:], 80).argmax(1)
    assert (answers == joints.two[48:]).mean() > 0.85


def test_the_same_seed_gives_the_same_network() -> None:
    settings = committed("network=three_layers", "epochs=2", "image_size=32")
    one, other = (trained(simulated(20), 2, settings)[1] for _ in range(2))
    assert one == other
    assert trained(simulated(20), 2, {**settings, "seed": 8})[1] != one


def test_real_knees_are_learnt_to_the_stated_loss(shared: Path, tmp_path: Path) -> None:
    """Eight radiographs, from nothing, with the committed seed: the last loss is below 0.6."""
    source = shared / "knee_osteoporosis"
    head, *rows = (source / "labels.csv").read_text(encoding="utf-8").splitlines()
    lines = [f"{source}/{row}" for row in rows[:: len(rows) // 8][:8]]
    (tmp_path / "labels.csv").write_text("\n".join([head, *lines]), encoding="utf-8")
    parts = build_parts(load_bundle(BUILT_IN / NAME), torch.device("cpu"))
    joints = read_joints(tmp_path, NAME, parts)
    assert len(joints) == 8
    assert set(joints.two.tolist()) == {0, 1}
    assert trained(joints, 2, committed("batch=4", "rate=0.001"))[1][-1] < 0.6


def test_uncertain_labels_cost_nothing_within_what_is_possible() -> None:
    logits = torch.tensor([[-20.0, 0.0, 0.0]])
    assert float(possible_loss(logits, torch.tensor([[0.0, 1, 1]]))) == pytest.approx(0, abs=1e-6)
    certain = possible_loss(logits, torch.tensor([[0.0, 1, 0]]))
    assert float(certain) == pytest.approx(float(np.log(2)), abs=1e-5)


def test_a_stopped_cross_validation_goes_on_with_the_missing_folds(tmp_path: Path) -> None:
    joints = simulated(20)
    settings = committed("network=three_layers", "folds=2", "epochs=1", "image_size=32")
    notes: list[str] = []
    logits = cross_validated(joints, 2, settings, tmp_path, notes.append)
    (tmp_path / "fold-1.json").unlink()
    again = cross_validated(joints, 2, settings, tmp_path, notes.append)
    assert np.allclose(logits, again)
    assert [note.split(":")[0] for note in notes] == ["fold 0", "fold 1", "fold 1"]


def test_a_site_trains_evaluates_and_resumes(tmp_path: Path) -> None:
    folder = radiographs(tmp_path / "knees", 6)
    run = tmp_path / "run"
    command = ["pipelines", "train", NAME, "--data", folder, "--output", run, "--device", "cpu",
               "--set", "epochs=1", "--set", "folds=2", "--set", "batch=4"]  # fmt: skip
    ended = dicom_node(*command)
    assert ended.status == 0, ended.err
    first = (run / "weights.safetensors").read_bytes()
    again = dicom_node(*command, "--resume")
    assert again.status == 0, again.err
    assert (run / "weights.safetensors").read_bytes() == first
    assert "OTHER" in ended.out
    assert not list(run.rglob("*.part"))
    with safe_open(run / "weights.safetensors", "pt") as opened:
        numbers = json.loads(opened.metadata()["calibration"])
    assert numbers["postprocessing::transforms::0::temperature"] > 0
    told = dicom_node(
        "pipelines", "evaluate", NAME, "--data", folder,
        "--weights", run / "weights.safetensors", "--json", tmp_path / "f.json",
    )  # fmt: skip
    assert told.status == 0, told.err
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert found["n"] == 6
    assert found["split"] == "all"
    assert found["not_evaluated"]["n"] == 1
    assert found["three_classes"]["n"] == 4
    assert found["by_side"].keys() == {"R", "L"}


class Watch:
    def note(self, text: str) -> None: ...
    def step(self, share: float, loss: float) -> None: ...
    def epoch(self, number: int, figures: object) -> None: ...


def test_with_a_split_the_rows_of_val_calibrate_and_none_is_cross_validated(tmp_path: Path) -> None:
    bundle = load_bundle(BUILT_IN / NAME)
    # blanks after the commas, as spreadsheets write them
    (tmp_path / "labels.csv").write_text("file, label, split\nx,normal,train", encoding="utf-8")
    joints = simulated(24)
    known = replace(joints, three=joints.two * 2)
    save_joints(known.of(range(16)), tmp_path / "joints-train.npz")
    save_joints(known.of(range(16, 24)), tmp_path / "joints-val.npz")
    settings = settings_of(bundle, ["epochs=1", "start="], None)
    asked = Training(bundle, tmp_path, tmp_path, settings, True, None, torch.device("cpu"), Watch())
    done = trainer_of(bundle)(asked)
    assert not (tmp_path / "folds").exists()
    assert done.figures["temperature"] > 0
    assert not done.on_every_row
    build_parts(load_bundle(bundle.folder, done.weights), torch.device("cpu"))


def test_what_could_not_be_calibrated_after_hours_is_told_before(tmp_path: Path) -> None:
    bundle = load_bundle(BUILT_IN / "knee_osteoporosis_superfluity")
    (tmp_path / "labels.csv").write_text("file,label,split\nx,normal,train", encoding="utf-8")
    joints = simulated(8)
    for split in ("train", "val"):
        unknown = replace(joints, three=np.full(8, UNKNOWN))
        save_joints(unknown, tmp_path / f"joints-{split}.npz")
    settings = settings_of(bundle, ["start="], None)
    asked = Training(bundle, tmp_path, tmp_path, settings, True, None, torch.device("cpu"), Watch())
    with pytest.raises(DataFolderError, match="three classes"):
        trainer_of(bundle)(asked)
    assert not (tmp_path / "net.safetensors").exists()


def test_seconds_are_refused_and_not_ignored(tmp_path: Path) -> None:
    bundle = load_bundle(BUILT_IN / NAME)
    settings = settings_of(bundle, [], None)
    asked = Training(bundle, tmp_path, tmp_path, settings, False, 60, torch.device("cpu"), Watch())
    with pytest.raises(ConfigError, match="fold by fold"):
        trainer_of(bundle)(asked)


def test_a_start_that_is_not_there_is_told(tmp_path: Path) -> None:
    bundle = load_bundle(BUILT_IN / NAME)
    settings = settings_of(bundle, ["start=nowhere.pth"], None)
    asked = Training(bundle, tmp_path, tmp_path, settings, True, None, torch.device("cpu"), Watch())
    with pytest.raises(ConfigError, match="no such file"):
        trainer_of(bundle)(asked)


def test_the_comparison_prints_every_network_and_the_controls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start" / "three_layers.safetensors"
    common = ["--set", "images=8", "--set", "sizes=[32]", "--set", "batch=4"]
    made = ["--data", str(pictures(tmp_path / "kl")), "--network", "three_layers"]
    assert pretrain.main([*made, "--out", str(start), *common]) == 0
    assert json.loads(start.with_suffix(".json").read_text())["losses"][0] > 0
    joints = simulated(20, side=48)
    out = tmp_path / "out"
    out.mkdir()
    save_joints(joints, out / "joints.npz")
    arguments = ["knee_osteoporosis_resnet50", "--data", str(tmp_path), "--out", str(out),
                 "--start", str(start.parent), "--set", "folds=2", "--set", "image_size=32",
                 "--only", "3-layer CNN", "--only", "VGG-16 not fine-tuned"]  # fmt: skip
    assert compare.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| 3-layer CNN |" in printed
    assert "| border of the crop as the network sees it | 0.500 |" in printed
    told = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert list(told["networks"]) == ["VGG-16 not fine-tuned", "3-layer CNN"]


def test_an_unknown_setting_of_the_pretraining_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        pretrain.main(["--data", str(tmp_path), "--network", "resnet18", "--out",
                       str(tmp_path / "x"), "--set", "image=3"])  # fmt: skip
