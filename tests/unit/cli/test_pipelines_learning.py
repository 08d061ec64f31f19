"""`pipelines evaluate`, `train` and `install` on a site's own folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dicom_node.inference.bundles import find_bundles, load_bundle
from dicom_node.inference.parts import build_parts
from tests.unit.cli.command import dicom_node
from tests.unit.pipelines.radiograph_cases import answers, findings
from tests.unit.serve.small_node import write_config
from tests.unit.training import knees

torch.set_num_threads(1)

KNEE = "knee_kl_ensemble"
SMALL = ("start=", "batch=4", "phantoms=0", "head_steps=1")
FIGURES = {
    "accuracy", "f1_macro", "f1_weighted", "quadratic_kappa", "mae", "ece", "coverage",
    "mean_set_size", "per_class", "n",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return knees.pictures(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def trained(site: Path) -> Path:
    """A run of one epoch, and then of another from its checkpoint."""
    run = site / "run"
    first = train(site, run, "epochs=1")
    assert first.status == 0, first.err
    assert "epoch 1: loss " in first.out
    again = train(site, run, "epochs=2", more=("--resume",))
    assert again.status == 0, again.err
    assert "epoch 2: " in again.out
    assert "epoch 1: " not in again.out
    return run


def train(site: Path, run: Path, *changes: str, more: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    sets = [word for change in (*SMALL, *changes) for word in ("--set", change)]
    return dicom_node(
        "pipelines", "train", KNEE, "--data", site, "--output", run, "--device", "cpu", *sets, *more
    )


def evaluate(site: Path, *more: object):  # type: ignore[no-untyped-def]
    return dicom_node("pipelines", "evaluate", KNEE, "--data", site, "--device", "cpu", *more)


def test_evaluate_prints_figures_and_writes_json_and_charts(site: Path, tmp_path: Path) -> None:
    out, charts = tmp_path / "new" / "figures.json", tmp_path / "charts"
    ended = evaluate(site, "--json", out, "--output", charts)
    assert ended.status == 0, ended.err
    found = json.loads(out.read_text())
    assert found.keys() >= FIGURES
    assert (found["n"], found["split"], found["pipeline"]) == (5, "test", KNEE)
    assert found["weights_sha256"] == find_bundles()[KNEE].weights_sha256
    assert found["intervals_drawn_by"] == "patient"
    assert sum(map(sum, found["confusion"])) == 5
    assert found["accuracy"] == np.trace(found["confusion"]) / 5
    for name in ("confusion", "roc", "calibration"):
        assert (charts / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    accuracy = next(line for line in ended.lines if line.startswith("accuracy"))
    assert f"{found['accuracy']:.4f}" in accuracy
    assert {side: part["n"] for side, part in found["by_side"].items()} == {"L": 3, "R": 2}
    assert any(line.startswith("accuracy of side L (3)") for line in ended.lines)


def test_all_splits_can_be_evaluated(site: Path, tmp_path: Path) -> None:
    evaluate(site, "--split", "all", "--json", tmp_path / "f.json")
    assert json.loads((tmp_path / "f.json").read_text())["n"] == 20


def test_dicom_by_uid_is_evaluated_as_the_node_does(tmp_path: Path) -> None:
    folder = knees.dicom(tmp_path / "dicom")
    ended = evaluate(folder, "--json", tmp_path / "f.json")
    assert ended.status == 0, ended.err
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["n"] == 3
    assert found["not_evaluated"]["n"] == 0
    made = knees.knee_radiograph(41, 0, "R", left_grade=3, spacing_mm=0.4)
    said = answers(findings(KNEE, made.image, 0.4))
    for truth, knee in ((0, "right knee"), (3, "left knee")):
        assert found["confusion"][truth][said[knee].predicted] == 1


def test_an_image_that_shows_no_knee_is_counted_apart(tmp_path: Path) -> None:
    folder = knees.dicom(tmp_path / "dicom")
    (image,) = knees.radiograph_study(
        np.random.default_rng(0).integers(0, 4096, (300, 300)).astype(np.uint16),
        0.4, key="NOISE", body_part="KNEE", description="noise",
    )  # fmt: skip
    image.save_as(folder / "noise.bin", enforce_file_format=True)
    table = folder / "labels.csv"
    table.write_text(f"{table.read_text()}\n{image.SOPInstanceUID},2,R")
    ended = evaluate(folder, "--json", tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())
    assert (found["n"], found["not_evaluated"]["n"]) == (3, 1)
    assert "not evaluated, 1 times: " in ended.out


@pytest.mark.parametrize("verb", ["evaluate", "train"])
def test_a_folder_without_a_table_is_told(tmp_path: Path, verb: str) -> None:
    (tmp_path / "data").mkdir()
    more = ("--output", tmp_path / "run") if verb == "train" else ()
    ended = dicom_node("pipelines", verb, KNEE, "--data", tmp_path / "data", *more)
    assert ended.status == 1
    assert "has no labels.csv" in ended.err
    assert "fix: write labels.csv" in ended.err


def test_training_leaves_weights_log_and_a_calibration_of_its_own(
    site: Path, trained: Path
) -> None:
    log = (trained / "log.txt").read_text()
    assert "epoch 1: loss " in log
    assert "epoch 2: loss " in log
    weights = trained / "weights.safetensors"
    shipped = find_bundles()[KNEE]
    parts = build_parts(load_bundle(shipped.folder, weights), torch.device("cpu"))
    calibrated = parts.postprocessing.transforms[0]  # type: ignore[attr-defined]
    own = build_parts(shipped, torch.device("cpu")).postprocessing.transforms[0]  # type: ignore[attr-defined]
    assert calibrated.temperature != own.temperature
    told, kept = load_file(weights), load_file(shipped.weights)
    assert all(torch.equal(told[name], kept[name]) for name in kept if name.startswith("finder."))
    assert not all(torch.equal(told[name], kept[name]) for name in kept)
    assert evaluate(site, "--weights", weights).status == 0


def test_a_training_is_not_written_over(site: Path, trained: Path) -> None:
    before = (trained / "checkpoint.pt").read_bytes()
    ended = train(site, trained, "epochs=1")
    assert ended.status == 2
    assert "go on from its checkpoint with --resume" in ended.err
    assert (trained / "checkpoint.pt").read_bytes() == before


def test_there_must_be_a_run_to_resume(site: Path, tmp_path: Path) -> None:
    ended = train(site, tmp_path / "none", more=("--resume",))
    assert ended.status == 2
    assert "no training was begun there" in ended.err


def test_training_ends_early_without_a_better_epoch(site: Path, tmp_path: Path) -> None:
    # a rate of 0 learns nothing: no epoch is better than the first
    changes = ("epochs=9", "patience=2", "rate=0", "head_rate=0", "start=weights", "average=0")
    ended = train(site, tmp_path / "run", *changes)
    assert ended.status == 0, ended.err
    assert ended.out.count("\nepoch ") + ended.out.startswith("epoch ") < 9


def test_training_data_without_splits_is_refused(site: Path, tmp_path: Path) -> None:
    for file in site.glob("*.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "labels.csv").write_text("file,kl\n0.png,0\n1.png,1\n")
    ended = train(tmp_path, tmp_path / "run")
    assert ended.status == 1
    assert "rows of train and of val" in ended.err


def test_a_run_that_failed_on_its_data_can_be_begun_again(site: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(tmp_path, run).status == 1
    assert train(tmp_path, run).err.count("has no labels.csv") == 1


def test_validation_rows_of_one_grade_are_refused(site: Path, tmp_path: Path) -> None:
    rows = ["file,kl,split", f"{site / '0.png'},0,train", f"{site / '1.png'},1,val"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert "all of one grade" in train(tmp_path, tmp_path / "run").err


def test_an_unknown_setting_is_told_with_what_it_may_mean(site: Path, tmp_path: Path) -> None:
    ended = train(site, tmp_path / "run", "epoch=2")
    assert ended.status == 2
    assert "did you mean epochs?" in ended.err
    assert not (tmp_path / "run").exists()


def test_a_missing_package_names_the_extra(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pipelines.knee_kl_ensemble.site", "pipelines.knee_kl_ensemble.train"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    ended = train(site, tmp_path / "run")
    assert ended.status == 1
    assert "the Python package sklearn is not installed" in ended.err
    assert "pip install 'dicom-node[train]'" in ended.err


def test_install_checks_runs_and_writes_what_the_node_then_loads(
    site: Path, trained: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, routes=[])
    weights, told = trained / "weights.safetensors", tmp_path / "figures.json"
    evaluate(site, "--weights", weights, "--json", told)
    ended = dicom_node("pipelines", "install", KNEE, weights, "--config", config, "--figures", told)
    assert ended.status == 0, ended.err
    home = next(tmp_path.rglob(f"{KNEE}-site-1.safetensors"))
    assert home.parent.name == KNEE
    assert f"weights: {home}" in ended.out
    assert home.read_bytes() == weights.read_bytes()
    card = home.with_suffix(".md").read_text()
    assert "| accuracy |" in card
    assert "To be filled in" in card
    bundle = load_bundle(find_bundles()[KNEE].folder, home)
    assert (bundle.version, bundle.demonstration) == ("site-1", False)
    bundle.verify_weights()
    again = dicom_node("pipelines", "install", KNEE, weights, "--config", config)
    assert "site-1 is there already" in again.out
    home.write_bytes(home.read_bytes()[:-1] + b"x")
    assert evaluate(site, "--weights", home).status == 1
    assert not list(home.parent.glob("*.tmp"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("missing", "tensor members.0.network.head.bias [5] is missing"),
        ("shape", "tensor members.0.network.head.bias is [4], the network's is [5]"),
        ("nan", "tensor members.0.network.head.bias holds values that are not finite"),
        ("more", "it has a tensor other that the network has not"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_first_tensor(
    tmp_path: Path, change: str, why: str
) -> None:
    tensors = load_file(find_bundles()[KNEE].weights)
    name = "members.0.network.head.bias"
    if change == "missing":
        tensors.pop(name)
    elif change == "shape":
        tensors[name] = torch.zeros(4)
    elif change == "nan":
        tensors[name] = torch.full((5,), float("nan"))
    else:
        tensors["other"] = torch.zeros(1)
    save_file(tensors, tmp_path / "w.safetensors")
    to = tmp_path / "to"
    ended = dicom_node("pipelines", "install", KNEE, tmp_path / "w.safetensors", "--to", to)
    assert ended.status == 1
    assert why in ended.err
    assert not to.exists()


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    ended = dicom_node("pipelines", "install", KNEE, tmp_path / "w.pt", "--to", tmp_path / "to")
    assert ended.status == 1
    assert "it is a pickle, which is never loaded" in ended.err


@pytest.mark.parametrize("verb", ["train", "evaluate", "install"])
def test_each_has_help_with_an_example(verb: str) -> None:
    ended = dicom_node("pipelines", verb, "--help")
    assert ended.status == 0
    assert f"Example: dicom-node pipelines {verb} {KNEE}" in ended.out
