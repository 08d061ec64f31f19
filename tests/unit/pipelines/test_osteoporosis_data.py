"""Labels, groups and folds of the osteoporosis images, and the controls' own soundness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.errors import DataFolderError
from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.parts import build_parts
from pipelines.osteoporosis.controls import controls
from pipelines.osteoporosis.crossval import fold_of
from pipelines.osteoporosis.data import UNKNOWN, Joints, grouped, read_joints
from pipelines.osteoporosis.figures import auc_interval, figures_of, matched_auc
from tests.unit.pipelines.osteoporosis_cases import radiographs, simulated

torch.set_num_threads(1)


def test_a_two_class_label_leaves_osteopenia_open() -> None:
    joints = simulated(4)
    known = Joints(joints.images, np.array([0, 1, 1, 0]), np.array([UNKNOWN, UNKNOWN, 1, 2]),
                   joints.groups, joints.sides, joints.shapes)  # fmt: skip
    assert known.possible(3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 1]]
    assert known.possible(2).tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]


def test_nearly_the_same_image_and_the_same_patient_are_one_group() -> None:
    rng = np.random.default_rng(0)
    view = rng.random((5, 20, 20))
    view[3] = view[0] * 0.5 + rng.normal(0, 0.005, (20, 20))
    groups = grouped([view], ["", "p", "p", "", ""])
    assert groups[0] == groups[3]
    assert groups[1] == groups[2]
    assert len(set(groups.tolist())) == 3
    assert len(set(grouped([np.zeros((3, 4, 4))], ["", "", ""]).tolist())) == 3


def test_no_group_is_in_two_folds_and_labels_are_spread() -> None:
    joints = simulated(40, pairs=True)
    place = fold_of(joints, 5, 7)
    assert all(len(set(place[joints.groups == g].tolist())) == 1 for g in set(joints.groups))
    assert {int(joints.two[place == fold].sum()) for fold in range(5)} == {4}


def test_the_radiographs_of_a_table_become_located_joints(tmp_path: Path) -> None:
    folder = radiographs(tmp_path, 3)
    parts = build_parts(
        load_bundle(BUILT_IN / "knee_osteoporosis_superfluity"), torch.device("cpu")
    )
    notes: list[str] = []
    joints = read_joints(folder, "x", parts, note=notes.append)
    assert joints.images.shape == (3, 80, 80)
    assert joints.two.tolist() == [0, 1, 0]
    assert joints.three.tolist() == [0, UNKNOWN, 1]
    assert joints.shapes[0].tolist() != [0, 0]
    assert len(notes) == 1  # one picture shows no knee
    assert "no knee" in notes[0]


def test_a_table_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file\na.png", encoding="utf-8")
    parts = build_parts(
        load_bundle(BUILT_IN / "knee_osteoporosis_superfluity"), torch.device("cpu")
    )
    with pytest.raises(DataFolderError, match="no column `label` or `kaggle_class`"):
        read_joints(tmp_path, "x", parts)


def test_controls_find_a_planted_shortcut_but_not_in_what_the_network_sees() -> None:
    joints = simulated(30, strength=0, side=32)
    shapes = np.stack([1000 + 500 * joints.two, np.full(30, 900)], 1)
    bright = joints.images.copy()
    bright[joints.two == 1, :3] = 255  # a marker at the border
    told = controls(Joints(bright, joints.two, joints.three, joints.groups, joints.sides, shapes),
                    5, 7)  # fmt: skip
    assert told["height of the radiograph"]["auc"] == 1
    assert told["border of the crop as it is"]["auc"] > 0.95
    assert told["border of the crop as the network sees it"]["auc"] == 0.5


def test_figures_of_three_classes_count_only_certain_labels() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7], [0.6, 0.2, 0.2]])
    found = figures_of(
        probabilities, np.array([0, 1, 1, 1]), np.array([0, 1, UNKNOWN, 2]), np.arange(4)
    )
    assert (found["auc"], found["accuracy"]) == (1, 0.75)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["three_classes"]["n"] == 3
    assert found["three_classes"]["accuracy"] == pytest.approx(2 / 3)


def test_the_interval_is_wider_when_images_come_in_groups() -> None:
    rng = np.random.default_rng(1)
    positive = np.repeat(rng.random(30) < 0.5, 4)
    score = positive + np.repeat(rng.normal(0, 1.5, 30), 4)
    alone = auc_interval(score, positive, np.arange(120))
    together = auc_interval(score, positive, np.repeat(np.arange(30), 4))
    assert alone is not None
    assert together is not None
    assert together[1] - together[0] > 1.3 * (alone[1] - alone[0])


def test_a_score_that_is_the_size_tells_nothing_among_images_of_one_size() -> None:
    size = np.array([100.0, 100, 200, 200, 200, 100])
    positive = np.array([True, False, True, True, False, False])
    assert matched_auc(size, positive, size) == 0.5
    assert matched_auc(positive + size, positive, size) == 1
    assert matched_auc(size, np.array([True] + [False] * 5), np.r_[1000.0, size[1:]]) is None
