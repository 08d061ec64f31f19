"""Sides: only what the header says, and nothing where it contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.model.findings import Side
from dicom_node.model.side import (
    agreed_side,
    agreed_sides,
    is_seen_from_behind,
    sides_by_position,
    stated_side,
)


@pytest.mark.parametrize(
    ("attributes", "side"),
    [
        ({"ImageLaterality": "R"}, Side.RIGHT),
        ({"ImageLaterality": " l "}, Side.LEFT),
        ({"Laterality": "L"}, Side.LEFT),
        ({"ImageLaterality": "", "Laterality": "L"}, Side.LEFT),
        ({"ImageLaterality": "R", "Laterality": "L"}, Side.RIGHT),
        # the image shows both, whatever its series says
        ({"ImageLaterality": "B", "Laterality": "L"}, Side.UNKNOWN),
        ({"ImageLaterality": "U"}, Side.UNKNOWN),
        ({"Laterality": ["R", "L"]}, Side.UNKNOWN),
        ({"AnatomicRegionModifierSequence": [{"value": "7771000"}]}, Side.LEFT),
        ({"ViewModifierCodeSequence": [{"value": "G-A100"}]}, Side.RIGHT),
        ({"Laterality": "R", "AnatomicRegionModifierSequence": [{"value": "7771000"}]}, Side.RIGHT),
        ({"AnatomicRegionModifierSequence": [{"value": "51440002"}]}, Side.UNKNOWN),
        (
            {"AnatomicRegionModifierSequence": [{"value": "7771000"}, {"value": "24028007"}]},
            Side.UNKNOWN,
        ),
        ({"ViewModifierCodeSequence": [{"value": "399348003"}]}, Side.UNKNOWN),
        ({}, Side.UNKNOWN),
    ],
)
def test_the_stated_side(attributes: dict[str, Any], side: Side) -> None:
    found, where = stated_side(attributes)
    assert found is side
    assert bool(where) == (side is not Side.UNKNOWN)


FRONT = (Side.RIGHT, Side.LEFT)
BEHIND = (Side.LEFT, Side.RIGHT)
NEITHER = (Side.UNKNOWN, Side.UNKNOWN)


@pytest.mark.parametrize(
    ("attributes", "sides", "told"),
    [
        ({}, FRONT, "position in the film"),
        ({"PatientOrientation": []}, FRONT, "position in the film"),
        ({"PatientOrientation": ["L", "F"], "ImageLaterality": "B"}, FRONT, "0020,0020"),
        ({"PatientOrientation": ["LF", "F"]}, FRONT, "0020,0020"),
        ({"PatientOrientation": ["R", "F"]}, BEHIND, "0020,0020"),
        ({"PatientOrientation": ["P", "F"]}, NEITHER, "no frontal view"),
        ({"PatientOrientation": ["F", "L"]}, NEITHER, "no frontal view"),
        ({"ImageLaterality": "R"}, NEITHER, "ImageLaterality (0020,0062) says R"),
        ({"Laterality": "L", "PatientOrientation": ["L", "F"]}, NEITHER, "Laterality"),
    ],
)
def test_the_sides_of_an_image_of_both(
    attributes: dict[str, Any], sides: tuple[Side, Side], told: str
) -> None:
    found, why = sides_by_position(attributes, "film")
    assert found == sides
    assert told in why


def test_seen_from_behind_is_what_the_orientation_says() -> None:
    assert is_seen_from_behind({"PatientOrientation": ["R", "F"]})
    assert not is_seen_from_behind({"PatientOrientation": ["L", "F"]})
    assert not is_seen_from_behind({})


@pytest.mark.parametrize(
    ("attributes", "letters", "side", "told"),
    [
        ({}, "", Side.UNKNOWN, ""),
        ({}, "R", Side.RIGHT, "the marker R in the image (read by r 1)"),
        ({}, "L", Side.LEFT, "the marker L in the image (read by r 1)"),
        ({}, "LR", Side.UNKNOWN, ""),
        ({"Laterality": "R"}, "", Side.RIGHT, "Laterality (0020,0060)"),
        ({"Laterality": "R"}, "LR", Side.RIGHT, "Laterality (0020,0060)"),
        ({"Laterality": "R"}, "R", Side.RIGHT, "(0020,0060) and the marker R in the image"),
        # filed or marked wrongly: a person has to look
        ({"Laterality": "R"}, "L", Side.UNKNOWN, "says R, but there is the marker L in the image"),
        # of an image of both the letter may belong to the other
        ({"ImageLaterality": "B"}, "R", Side.UNKNOWN, ""),
        ({"AnatomicRegionModifierSequence": [{"value": "51440002"}]}, "R", Side.UNKNOWN, ""),
        ({"ViewModifierCodeSequence": [{"value": "399348003"}]}, "R", Side.RIGHT, "marker"),
    ],
)
def test_the_side_that_header_and_marker_agree_on(
    attributes: dict[str, Any], letters: str, side: Side, told: str
) -> None:
    found, why = agreed_side(attributes, set(letters), "r 1")
    assert found is side
    assert told in why if told else not why


@pytest.mark.parametrize(
    ("attributes", "letters", "sides", "told"),
    [
        ({}, ("", ""), FRONT, "position in the film"),
        ({}, ("R", ""), FRONT, "position in the film and the marker R"),
        ({}, ("R", "L"), FRONT, "marker R in the image (read by r 1) and the marker L"),
        ({}, ("L", ""), NEITHER, "says R, but there is the marker L in the image"),
        ({}, ("L", "R"), NEITHER, "the marker"),
        ({}, ("RL", ""), NEITHER, "the marker L in the image (read by r 1)"),
        ({"PatientOrientation": ["R", "F"]}, ("L", "R"), BEHIND, "marker L"),
        ({"PatientOrientation": ["P", "F"]}, ("R", "L"), NEITHER, "no frontal view"),
        ({"Laterality": "R"}, ("R", "L"), NEITHER, "shows both sides"),
    ],
)
def test_the_sides_of_both_that_position_and_markers_agree_on(
    attributes: dict[str, Any],
    letters: tuple[str, str],
    sides: tuple[Side, Side],
    told: str,
) -> None:
    found, why = agreed_sides(attributes, "film", (set(letters[0]), set(letters[1])), "r 1")
    assert found == sides
    assert told in why
