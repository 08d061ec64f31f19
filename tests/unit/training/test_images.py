"""Rows of a site's table and the joints of their images: never one joint under two labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dicom_node.demo.phantom_studies import radiograph_study, write_study
from dicom_node.inference.parts import Parts
from dicom_node.model.findings import Side
from dicom_node.model.side import sides_by_position, stated_side
from dicom_node.model.targets import Target
from dicom_node.training.images import Reader
from dicom_node.training.table import Row

RAMP = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)

Located = Callable[[Any, Any], Sequence[Target]]


def one(_: Any, attributes: Any) -> list[Target]:
    """A finder that sees one joint, at the left of the image."""
    side, source = stated_side(attributes)
    return [Target("it", side, source, box=(0, 0, 20, 20), mirror=side is Side.LEFT)]


def both(_: Any, attributes: Any) -> list[Target]:
    sides, source = sides_by_position(attributes, "image")
    boxes = ((0, 0, 20, 20), (40, 0, 20, 20))
    return [Target(f"{n}", sides[n], source, box=boxes[n], mirror=n == 1) for n in (0, 1)]


@pytest.mark.parametrize(
    ("highest", "kind", "white"),
    [
        (200, np.uint8, 255),
        (255, np.uint16, 255),
        (900, np.uint16, 1023),
        (3865, np.uint16, 4095),
        (12000, np.uint16, 16383),
        (60000, np.uint16, 65535),
        (1.0, np.float32, 1),
    ],
)
def test_white_is_what_the_detector_s_bits_hold(
    tmp_path: Path, highest: float, kind: Any, white: float
) -> None:
    values = np.linspace(0, highest, 40 * 60).reshape(40, 60).astype(kind)
    Image.fromarray(values).save(tmp_path / "x.tiff")
    parts = Parts(torch.nn.Identity(), lambda data: data, lambda data: data, None, None, None)  # type: ignore[arg-type]
    row = Row(2, tmp_path / "x.tiff", 0, "", "", "")
    (case,) = Reader("x", parts, torch.device("cpu")).cases([row])
    assert case.data is not None
    assert float(case.data["image"].max()) == pytest.approx(highest / white)


def picture(folder: Path) -> Path:
    Image.fromarray(RAMP).save(folder / "film.png")
    return folder / "film.png"


def dicom(folder: Path) -> Path:
    study = radiograph_study(RAMP, 0.2, key="film", body_part="KNEE", description="film")
    write_study(study, folder)
    (file,) = folder.iterdir()
    return file


def cases(file: Path, locator: Located, *sides: str) -> list[tuple[Side, bool] | str]:
    """What becomes of a row for each side: whose joint it is and whether mirrored, or why none."""
    parts = Parts(torch.nn.Identity(), lambda data: data, lambda data: data, None, locator, None)  # type: ignore[arg-type]
    rows = [Row(n, file, 0, "", side, "") for n, side in enumerate(sides, 2)]
    found = Reader("x", parts, torch.device("cpu"), locate=True).cases(rows)
    return [
        case.refused
        if case.data is None
        else (case.data["target"].side, case.data["target"].mirror)
        for case in found
    ]


@pytest.mark.parametrize("made", [picture, dicom])
def test_a_row_for_each_knee_of_a_film_takes_its_own(
    tmp_path: Path, made: Callable[[Path], Path]
) -> None:
    assert cases(made(tmp_path), both, "R", "L") == [(Side.RIGHT, False), (Side.LEFT, True)]


@pytest.mark.parametrize("made", [picture, dicom])
def test_the_only_joint_that_is_found_on_a_film_of_both_is_neither_s(
    tmp_path: Path, made: Callable[[Path], Path]
) -> None:
    found = cases(made(tmp_path), one, "R", "L")
    assert found == ["nothing found on the right", "nothing found on the left"]


def test_a_picture_of_one_knee_has_the_side_of_the_table(tmp_path: Path) -> None:
    assert cases(picture(tmp_path), one, "L") == [(Side.LEFT, True)]
    assert cases(picture(tmp_path), one, "R") == [(Side.RIGHT, False)]
    assert cases(picture(tmp_path), one, "") == [(Side.UNKNOWN, False)]


def test_a_row_for_one_knee_of_a_film_of_both_takes_that(tmp_path: Path) -> None:
    assert cases(picture(tmp_path), both, "L") == [(Side.LEFT, True)]
