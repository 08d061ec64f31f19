"""The side: as stated, in many languages, and never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.model.findings import Side
from dicom_node.model.instances import AttributeValue, attributes_of
from dicom_node.routing.laterality import READS, laterality_of, sides_in

R, L = frozenset({Side.RIGHT}), frozenset({Side.LEFT})
BOTH, NONE = R | L, frozenset({Side.NONE})


@pytest.mark.parametrize("keyword", ["ImageLaterality", "FrameLaterality", "Laterality"])
@pytest.mark.parametrize(
    ("text", "sides"),
    [("R", R), ("L", L), ("r", R), ("B", BOTH), ("U", NONE), ("LEFT", L), ("Rechts", R)],
)
def test_a_side_that_is_stated(keyword: str, text: str, sides: frozenset[Side]) -> None:
    found = laterality_of({keyword: text})
    assert found.sides == sides
    assert found.seen == text
    assert found.where.startswith(keyword)


def test_values_that_contradict_each_other_name_no_side() -> None:
    found = laterality_of({"Laterality": ["R", "L"]})
    assert found.sides == frozenset()
    assert "contradict" in found.why
    assert laterality_of({"Laterality": ["R", "R"]}).sides == R


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("AnatomicRegionSequence", "AnatomicRegionModifierSequence"),
        ("PrimaryAnatomicStructureSequence", "PrimaryAnatomicStructureModifierSequence"),
        ("ViewCodeSequence", "ViewModifierCodeSequence"),
    ],
)
def test_a_coded_side_is_read_where_the_standard_puts_it(outer: str, inner: str) -> None:
    modifier, item, image = Dataset(), Dataset(), Dataset()
    modifier.CodeValue, modifier.CodingSchemeDesignator = "7771000", "SCT"
    modifier.CodeMeaning = "Left"
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "72696002", "SCT", "Knee"
    setattr(item, inner, [modifier])
    setattr(image, outer, [item])
    found = laterality_of(attributes_of(image))
    assert found.sides == L
    assert found.where.startswith(inner)


@pytest.mark.parametrize(
    ("value", "sides"),
    [("24028007", R), ("7771000", L), ("G-A100", R), ("G-A101", L), ("51440002", BOTH)],
)
@pytest.mark.parametrize(
    "keyword", ["AnatomicRegionModifierSequence", "PrimaryAnatomicStructureModifierSequence"]
)
def test_a_coded_side(keyword: str, value: str, sides: frozenset[Side]) -> None:
    item = {"value": value, "scheme": "SCT", "meaning": "a side"}
    assert laterality_of({keyword: [item]}).sides == sides


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Knie re.", R),
        ("Knie li. a.p.", L),
        ("Knie rechts", R),
        ("KNEE-RT.", R),
        ("LT KNEE", L),
        ("LTKNEE", L),
        ("KNEERT", R),
        ("Knee AP L", L),
        ("L Knee", L),
        ("Genou droit", R),
        ("Genou g", L),
        ("Rodilla izq.", L),
        ("Rodilla derecha", R),
        ("Ginocchio dx", R),
        ("Ginocchio sin", L),
        ("Joelho esquerdo", L),
        ("Knä höger", R),
        ("Knæ venstre", L),
        ("Kolano prawe", R),
        ("Polvi vasen", L),
        ("Koleno vlevo", L),
        ("Sağ diz", R),
        ("Правый коленный сустав", R),
        ("γόνατο αριστερό", L),
        ("左膝", L),
        ("右股関節", R),
        ("오른 무릎", R),
        ("الركبة اليسرى", L),
        ("Both knees", BOTH),
        ("Knie bds.", BOTH),
        ("両膝", BOTH),
        ("Knie li/re", BOTH),
    ],
)
def test_a_side_in_words(text: str, sides: frozenset[Side]) -> None:
    assert sides_in(text) == sides


@pytest.mark.parametrize(
    "text",
    [
        "L SPINE",  # the letter belongs to the name
        "L-Spine AP",
        "LWS seitl.",
        "Chest left lateral",  # no paired part: the beam, not the body
        "Knee",
        "R",
        "Series R 3",
        "Dr. Knee",  # no French word, no right side
        "",
        "RELAX",
    ],
)
def test_a_text_that_states_no_side(text: str) -> None:
    assert sides_in(text) == frozenset()


def test_image_laterality_is_trusted_before_the_words() -> None:
    found = laterality_of({"ImageLaterality": "R", "SeriesDescription": "Knie li."})
    assert found.sides == R
    assert "contradicted by “Knie li.” in SeriesDescription (0008,103E)" in found.why


def test_both_sides_are_no_contradiction_of_one() -> None:
    assert laterality_of({"Laterality": "R", "StudyDescription": "Both knees"}).why == ""


def test_a_text_that_names_both_sides_does_not_tell_which_this_is() -> None:
    found = laterality_of({"StudyDescription": "Both knees"})
    assert found.sides == frozenset()
    assert "names both sides" in found.why


def test_the_view_code_left_lateral_tells_no_side() -> None:
    item = {"value": "399173006", "scheme": "SCT", "meaning": "left lateral"}
    found = laterality_of({"BodyPartExamined": "KNEE", "ViewCodeSequence": [item]})
    assert found.sides == frozenset()


def test_an_image_that_says_nothing_has_no_side() -> None:
    found = laterality_of({"BodyPartExamined": "KNEE"})
    assert (found.sides, found.seen, found.where) == (frozenset(), "", "")
    assert found.why == "no attribute names a side"


VALUES = st.one_of(
    st.text(),
    st.integers(),
    st.lists(st.text(), max_size=2),
    st.lists(st.fixed_dictionaries({"value": st.text(), "meaning": st.text()}), max_size=2),
)


@given(st.dictionaries(st.sampled_from(READS), VALUES))
def test_no_header_upsets_the_reader(attributes: dict[str, AttributeValue]) -> None:
    found = laterality_of(attributes)
    assert found.sides <= {Side.RIGHT, Side.LEFT, Side.NONE}
    assert not (Side.NONE in found.sides and len(found.sides) > 1)


@given(
    st.sampled_from(["Knee", "Hip", "Shoulder", "Knie", "Hand", "Ankle"]),
    st.sampled_from(["left", "right"]),
    st.sampled_from([" ", "_", "-", ", ", "."]),
    st.sampled_from([str.upper, str.lower, str.title]),
    st.booleans(),
)
def test_a_side_beside_a_part_is_found_whatever_stands_between(
    part: str, side: str, mark: str, case: type[str], first: bool
) -> None:
    text = case(mark.join([side, part] if first else [part, side]))
    assert sides_in(text) == (L if side == "left" else R)
