"""From a folder of labelled crops to weights and figures, in the smallest steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipelines.knee_kl_ensemble import evaluate, finder_training, pack, train
from pipelines.knee_kl_ensemble.augmentation import augmented, ordinal_targets
from pipelines.knee_kl_ensemble.data import read_knees
from pipelines.knee_kl_ensemble.phantoms import phantom_crop
from pipelines.networks.knee_finder import KneeFinder
from pipelines.phantoms.knee import knee_radiograph

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of phantoms, split as the published ones are."""
    root = tmp_path_factory.mktemp("knees")
    rows = ["split,kl,file,patient,side"]
    for number in range(20):
        grade, side = number % 5, "RL"[number % 2]
        made = knee_radiograph(number, grade, side, spacing_mm=0.8)
        crop = phantom_crop(made, made.joints[0], 64)
        Image.fromarray(crop).save(root / f"{number}.png")
        split = ("train", "train", "val", "test")[number // 5]
        rows.append(f"{split},{grade},{number}.png,{number},{side}")
    (root / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """One epoch of two steps, then another from where it stopped."""
    out = folder / "run"
    common = ["--data", str(folder), "--out", str(out), "--threads", "1"]
    for key, value in {
        "start": "", "image_size": 64, "batch": 4, "phantoms": 0, "head_steps": 1,
    }.items():  # fmt: skip
        common += ["--set", f"{key}={value}"]
    assert train.main([*common, "--set", "epochs=1"]) == 0
    assert train.main([*common, "--set", "epochs=2", "--resume"]) == 0
    return out


def test_training_resumes_where_it_stopped(run: Path) -> None:
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    assert (saved["epoch"], saved["step"]) == (2, 4)
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert log.count("epoch 1 done") == 1
    assert log.count("epoch 2 done") == 1


def test_members_pack_into_one_small_file_that_the_evaluation_reads(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finder, weights = tmp_path / "finder.safetensors", tmp_path / "w.safetensors"
    made = ["--crops", folder, "--out", finder, "--steps", 2, "--phantoms", 2]
    assert finder_training.main([str(a) for a in made]) == 0
    KneeFinder().load_state_dict(load_file(finder))
    member = run / "best.safetensors"
    packed = ["--data", folder, "--finder", finder, "--out", weights, "--member", member]
    with pytest.raises(SystemExit):
        pack.main([str(a) for a in packed])
    assert "has 2 members, --member was given 1 times" in capsys.readouterr().err
    assert not weights.exists()
    assert pack.main([str(a) for a in (*packed, "--member", member)]) == 0
    assert "temperature:" in capsys.readouterr().out
    assert {t.dtype for t in load_file(weights).values() if t.is_floating_point()} == {
        torch.float16
    }
    out = tmp_path / "figures"
    arguments = ["--data", folder, "--output", out, "--weights", weights]
    assert evaluate.main([str(a) for a in arguments]) == 0
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert found["n"] == 5
    assert sum(map(sum, found["confusion"])) == 5
    assert (out / "confusion.png").stat().st_size > 1000


def test_left_knees_are_mirrored_and_grades_are_read(folder: Path) -> None:
    knees = read_knees(folder, "train", size=64)
    assert knees.grades.tolist() == [0, 1, 2, 3, 4] * 2
    left = knees.files.index("1.png")
    file = np.asarray(Image.open(folder / "1.png"))
    assert np.array_equal(knees.images[left], file[:, ::-1])


def test_a_table_without_grades_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,split\na.png,train", encoding="utf-8")
    with pytest.raises(ValueError, match="none of kl, label, grade"):
        read_knees(tmp_path, "train")


def test_a_grade_beyond_four_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,kl\na.png,5", encoding="utf-8")
    with pytest.raises(ValueError, match="not from 0 to 4"):
        read_knees(tmp_path)


def test_ordinal_targets_prefer_the_grade_then_its_neighbours() -> None:
    targets = ordinal_targets(torch.tensor([0, 2]), 5, 0.55)
    assert torch.allclose(targets.sum(1), torch.ones(2))
    assert targets.argmax(1).tolist() == [0, 2]
    assert targets[1, 1] == pytest.approx(float(targets[1, 3]))
    assert targets[0, 1] > targets[0, 2]


class _AlwaysFour(torch.nn.Module):
    """A teacher that is sure of the highest grade."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(100.0 * torch.nn.functional.one_hot(torch.tensor(4), 5), 0).expand(
            len(images), 5
        )


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_teacher_has_its_share_of_what_is_to_be_learned(folder: Path, share: float) -> None:
    knees = read_knees(folder, "train", size=64)
    labels = ordinal_targets(torch.from_numpy(knees.grades), 5, 0.55)
    settings = {"teacher_share": share, "target_spread": 0.55}
    found = train.training_targets(settings, knees, _AlwaysFour())
    assert torch.allclose(found.sum(1), torch.ones(len(knees)))
    four = torch.nn.functional.one_hot(torch.tensor(4), 5)
    assert torch.allclose(found, (1 - share) * labels + share * four, atol=1e-5)


def test_the_pipelines_own_weights_teach_where_the_settings_ask_for_it(
    folder: Path, tmp_path: Path
) -> None:
    arguments = ["--data", str(folder), "--out", str(tmp_path), "--threads", "1", "--limit", "5"]
    for key, value in {
        "start": "", "image_size": 64, "batch": 5, "phantoms": 0, "epochs": 1, "teacher_share": 0.5,
    }.items():  # fmt: skip
        arguments += ["--set", f"{key}={value}"]
    assert train.main(arguments) == 0
    assert "the teacher looks at 5 images" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_blur_takes_the_finest_detail_and_keeps_the_brightness() -> None:
    torch.manual_seed(0)
    how = {"degrees": 0, "scale": 0, "shift": 0, "flip": 0, "negative": 0, "gamma": 0,
           "washout": 0, "noise": 0}  # fmt: skip
    stripes = (torch.arange(40) % 2).float().expand(8, 1, 40, 40).clone()
    stripes[:, :, :8] = 0  # black and white stay in the image, so that the scale stays
    stripes[:, :, -8:] = 1
    sharp = augmented(stripes, 40, how)
    soft = augmented(stripes, 40, {**how, "blur": 1.0})
    assert torch.allclose(sharp, stripes, atol=1e-4)
    middle = soft[:, 0, 16:24, 10:30]
    assert (middle.std((1, 2)) < 0.45).sum() >= 4
    assert middle.std((1, 2)).max() <= 0.52
    assert torch.allclose(middle.mean((1, 2)), torch.full((8,), 0.5), atol=0.02)


def test_augmented_images_keep_to_the_scale() -> None:
    torch.manual_seed(0)
    how = {"degrees": 12, "scale": 0.1, "shift": 0.05, "flip": 0.5, "negative": 0.5, "gamma": 0.5,
           "washout": 1.0, "noise": 0.05}  # fmt: skip
    out = augmented(torch.rand(6, 1, 40, 40), 32, how)
    assert out.shape == (6, 1, 32, 32)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
