"""The exposed field around a joint: where it ends, and where it is left to the finder."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.transforms.exposed_field import Array, Box, exposed_field

SIDE = 100


def lit(height: int = SIDE, width: int = SIDE) -> Array:
    return np.random.default_rng(3).uniform(0.1, 0.9, (height, width)).astype(np.float32)


def on(surround: float, top: int, left: int, field: Array) -> Array:
    image = np.full((300, 260), surround, np.float32)
    image[top : top + field.shape[0], left : left + field.shape[1]] = field
    return image


def field_at(image: Array, row: float, column: float, size: float = SIDE) -> Box | None:
    return exposed_field(image, row, column, size, between=(0, image.shape[1]))


@pytest.mark.parametrize("surround", [0.0, 0.4, 1.0])
def test_it_ends_where_lines_are_of_one_value(surround: float) -> None:
    image = on(surround, 80, 60, lit())
    assert field_at(image, 127, 114, 97) == (60, 80, SIDE, SIDE)


def test_it_ends_where_the_image_does() -> None:
    image = on(0, 0, 0, lit())[:SIDE, : SIDE + 1]
    assert field_at(image, 48, 52) == (0, 0, SIDE, SIDE)


def test_what_is_dark_inside_is_no_border() -> None:
    field = lit()
    field[10:90, 2:20] = 0  # air beside the knee, but not beside the shafts
    assert field_at(on(0, 80, 60, field), 130, 110) == (60, 80, SIDE, SIDE)


@pytest.mark.parametrize(
    ("field", "row", "column"),
    [
        (lit(200), 160, 110),  # the leg goes on
        (lit(SIDE, 88), 130, 104),  # no square
        (lit(125, 125), 142, 122),  # more than the joint
    ],
)
def test_other_fields_are_left_to_the_finder(field: Array, row: int, column: int) -> None:
    assert field_at(on(0, 80, 60, field), row, column) is None


def test_where_nothing_is_lit_there_is_none() -> None:
    assert field_at(np.zeros((300, 260), np.float32), 130, 110) is None


def test_a_surround_with_noise_is_none() -> None:
    image = on(0, 80, 60, lit())
    image += np.random.default_rng(4).normal(0, 0.02, image.shape).astype(np.float32)
    assert field_at(image, 130, 110) is None


@pytest.mark.parametrize("centre", [(-5, 110), (305, 110), (130, -2), (130, 262)])
def test_a_centre_outside_of_the_image_has_none(centre: tuple[int, int]) -> None:
    assert field_at(on(0, 80, 60, lit()), *centre) is None


def test_of_two_that_touch_each_ends_where_it_is_told() -> None:
    image = np.hstack([lit(), lit()])
    assert exposed_field(image, 50, 51, SIDE, between=(0, SIDE)) == (0, 0, SIDE, SIDE)
    assert exposed_field(image, 50, 149, SIDE, between=(SIDE, 200)) == (SIDE, 0, SIDE, SIDE)
