"""Simulated devices on real hips, and data sets that mix simulated with real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.hip_fixation_device.data import LABELS
from pipelines.hip_fixation_device.mixing import (
    as_tensors,
    hip_dataset,
    read_backgrounds,
    simulated_items,
)
from pipelines.phantoms.hip_backgrounds import Background, hip_on, project

HEADER = "file,side,head_row,head_column,shaft_row,shaft_column,mm_per_pixel\n"


def background(side: str = "R", shaft: tuple[float, float] = (219.0, 83.0)) -> Background:
    image = np.full((330, 260), 0.3, np.float32)
    return Background(image, 1.0, (119.0, 130.0), shaft, side)


def test_head_and_shaft_lie_where_they_were_marked() -> None:
    for side, column in (("R", 70.0), ("L", 205.0)):
        made = background(side, (189.0, column))
        x, y = made.coordinates()
        assert (x[119, 130], y[119, 130]) == pytest.approx((0, 0))
        assert (x[189, int(column)], y[189, int(column)]) == pytest.approx((-47, 100))


def _metal(made: np.ndarray) -> np.ndarray:
    return np.argwhere(made > 0.7 * 4095)


@pytest.mark.parametrize("side", ["R", "L"])
def test_a_plate_lies_at_the_outer_side_of_the_shaft(side: str) -> None:
    column = 83.0 if side == "R" else 177.0
    found = _metal(hip_on(background(side, (219.0, column)), 11, "sliding_screw").image)
    below = found[found[:, 0] > 190]
    outer = 1 if side == "L" else -1
    assert len(below) > 50
    assert (outer * (below[:, 1] - column)).mean() > 5


def test_a_device_follows_a_leg_that_is_turned() -> None:
    straight = _metal(hip_on(background("L", (219.0, 177.0)), 11, "long_nail").image)
    turned = _metal(hip_on(background("L", (189.0, 205.0)), 11, "long_nail").image)

    def slope(points: np.ndarray) -> float:
        below = points[points[:, 0] > 150]
        return float(np.polyfit(below[:, 0], below[:, 1], 1)[0])

    assert slope(turned) > slope(straight) + 0.3


def test_the_same_seed_makes_the_same_image_and_no_device_leaves_no_metal() -> None:
    again = [hip_on(background(), 5, "none").image for _ in range(2)]
    assert np.array_equal(*again)
    assert not len(_metal(again[0]))


def test_a_projection_shows_bone_bright_head_up_and_the_right_side_on_the_left() -> None:
    hu = np.full((80, 60, 90), -1000.0, np.float32)
    hu[5:75, 5:55] = 0.0
    hu[55:65, 20:40, 60:80] = 900.0  # on the patient's right, high up
    image = project(hu, (2.0, 2.0, 2.0))
    assert image.shape == (180, 160)
    bright = np.argwhere(image > 0.9)
    assert bright[:, 0].mean() < 90
    assert bright[:, 1].mean() < 80
    assert image[:, :6].max() < 0.2  # air beside the body


def test_a_projection_ends_at_the_weakening_of_bone_however_dense_metal_is() -> None:
    hu = np.zeros((40, 40, 40), np.float32)
    hu[15:25, 15:25, 15:25] = 1800.0
    metal = hu.copy()
    metal[15:25, 15:25, 15:25] = 20000.0
    assert np.array_equal(project(hu, (2.0,) * 3), project(metal, (2.0,) * 3))


def _table(folder: Path, row: str) -> Path:
    picture = np.full((660, 520), 20000, np.uint16)
    Image.fromarray(picture).save(folder / "a.png")
    (folder / "table.csv").write_text(HEADER + row, encoding="utf-8")
    return folder / "table.csv"


def test_backgrounds_are_cut_to_films_with_their_marks(tmp_path: Path) -> None:
    (found,) = read_backgrounds(_table(tmp_path, "a.png,L,300,200,500,300,0.5\n"))
    assert (found.image.shape, found.spacing_mm, found.side) == ((330, 260), 1.0, "L")
    assert np.subtract(found.shaft, found.head) == pytest.approx([100, 50])


def test_a_side_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="R or L"):
        read_backgrounds(_table(tmp_path, "a.png,both,300,200,500,300,0.5\n"))


def test_real_and_simulated_hips_make_one_data_set(tmp_path: Path) -> None:
    backgrounds = read_backgrounds(_table(tmp_path, "a.png,R,300,200,500,150,0.5\n"))
    real = {"image": tmp_path / "a.png", "label": "none"}
    simulated = simulated_items(("none", "sliding_screw"), 1, 3)
    on_real = simulated_items(("sliding_screw",), 1, 3, backgrounds=1)
    dataset = hip_dataset([real, *simulated, *on_real], backgrounds)
    images, truth = as_tensors(dataset, LABELS)
    assert images.shape == (4, 1, 256, 256)
    assert [LABELS[n] for n in truth] == ["none", "none", "sliding_screw", "sliding_screw"]
    assert float(images[0].std()) < 1e-3  # the picture itself
    assert float(images[3].max()) > 0.7  # metal, on the same picture
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1 + 1e-5
