"""Views: by position, by code, by the words of a series; one that does not say stays unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.model.instances import AttributeValue
from dicom_node.routing.views import READS, UNKNOWN, meets, named, view_of


@pytest.mark.parametrize(
    ("position", "view"),
    [
        ("AP", "AP"),
        ("ap", "AP"),
        ("A.P.", "AP"),
        ("PA", "PA"),
        ("ANTEROPOSTERIOR", "AP"),
        ("LAT", "LATERAL"),
        ("LATERAL", "LATERAL"),
        ("LL", "LL"),
        ("RL", "RL"),
        ("LLO", "OBLIQUE"),
        ("Seitlich", "LATERAL"),
        ("SUNRISE", "AXIAL"),
        ("ROSENBERG", "ROSENBERG"),
        ("FROG LEG", "FROG"),
        ("SWIMMERS", "SWIMMERS"),
    ],
)
def test_a_view_position_is_known_by_any_spelling(position: str, view: str) -> None:
    found = view_of({"ViewPosition": position})
    assert found.name == view
    assert found.seen == position
    assert found.where == "ViewPosition (0018,5101)"


@pytest.mark.parametrize("silent", ["", "UNKNOWN", "NONE", "other", "N/A", "  "])
def test_a_silent_view_position_leaves_it_to_the_code_and_then_to_the_series(silent: str) -> None:
    item = {"value": "272479007", "scheme": "SCT", "meaning": "postero-anterior"}
    both = {"ViewPosition": silent, "ViewCodeSequence": [item], "SeriesDescription": "Knee AP"}
    assert view_of(both).name == "PA"
    assert "contradicted by “Knee AP”" in view_of(both).why
    assert view_of({"ViewPosition": silent, "SeriesDescription": "Knee AP"}).name == "AP"
    assert view_of({"ViewPosition": silent}).name == UNKNOWN


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("Knie a.p.", "AP"),
        ("KNEE_AP", "AP"),
        ("Knie seitl.", "LATERAL"),
        ("Genou face", "FRONTAL"),
        ("Genou profil", "LATERAL"),
        ("Rodilla lateral", "LATERAL"),
        ("膝関節正面", "FRONTAL"),
        ("膝侧位", "LATERAL"),
        ("Patella sunrise", "AXIAL"),
        ("Hüfte Lauenstein", "FROG"),
        ("Knee AP oblique", "OBLIQUE"),
        ("PA flexion", "ROSENBERG"),
        ("Knee cross table lateral", "CROSSTABLE"),
    ],
)
def test_the_series_is_read_where_nothing_else_says(text: str, view: str) -> None:
    assert view_of({"SeriesDescription": text}).name == view


@pytest.mark.parametrize(
    "text",
    [
        "Knie ap/lat",
        "Knee AP and lateral",
        "F+P",
        "Knie in 2 Ebenen",
        "膝关节正侧位",
        "膝関節 2方向",
    ],
)
def test_a_series_of_two_views_does_not_tell_which_this_is(text: str) -> None:
    assert view_of({"SeriesDescription": text}).name == UNKNOWN


def test_the_studys_description_does_not_tell_the_view_of_an_image() -> None:
    assert view_of({"StudyDescription": "Knee AP"}).name == UNKNOWN


def test_view_position_is_trusted_before_the_code() -> None:
    item = {"value": "399067008", "scheme": "SCT", "meaning": "lateral"}
    found = view_of({"ViewPosition": "AP", "ViewCodeSequence": [item]})
    assert found.name == "AP"
    assert "contradicted by “(399067008, lateral)” in ViewCodeSequence (0054,0220)" in found.why


def test_two_statements_that_agree_are_no_contradiction() -> None:
    assert view_of({"ViewPosition": "AP", "SeriesDescription": "Genou face"}).why == ""
    assert view_of({"ViewPosition": "LL", "SeriesDescription": "Knee lat"}).why == ""


def test_a_code_of_an_unknown_value_is_read_by_its_meaning() -> None:
    item = {"value": "X1", "scheme": "99LOCAL", "meaning": "antero-posterior"}
    assert view_of({"ViewCodeSequence": [item]}).name == "AP"


def test_a_special_case_meets_its_broader_view_and_not_the_other_way() -> None:
    assert meets("LL", "lateral")
    assert meets("ML", "LATERAL")
    assert not meets("LATERAL", "LL")
    assert meets("AP", "frontal")
    assert meets("ROSENBERG", "PA")
    assert meets("ROSENBERG", "frontal")
    assert not meets("FRONTAL", "AP")
    assert not meets("OBLIQUE", "AP")
    assert not meets("AP", "PA")


def test_an_image_that_does_not_say_meets_only_unknown() -> None:
    assert meets(UNKNOWN, "unknown")
    assert not meets("AP", "unknown")
    assert not any(meets(UNKNOWN, wanted) for wanted in ("AP", "PA", "lateral", "frontal"))


def test_a_view_that_the_vocabulary_lacks_is_met_by_the_same_words() -> None:
    assert meets(named("Swimmer's"), "SWIMMERS")


@given(
    st.sampled_from(["AP", "PA", "lateral", "oblique", "axial", "frontal", "Rosenberg", "LL"]),
    st.sampled_from([str.upper, str.lower, str.title]),
    st.sampled_from(["", " ", ".", "-", "_"]),
)
def test_case_and_punctuation_do_not_matter(text: str, case: type[str], mark: str) -> None:
    assert named(mark + case(text) + mark) == named(text)


VALUES = st.one_of(
    st.text(),
    st.integers(),
    st.lists(st.text(), max_size=2),
    st.lists(st.fixed_dictionaries({"value": st.text(), "meaning": st.text()}), max_size=2),
)


@given(st.dictionaries(st.sampled_from(READS), VALUES), st.text())
def test_no_header_upsets_the_reader(attributes: dict[str, AttributeValue], text: str) -> None:
    found = view_of(attributes)
    assert found.name
    assert isinstance(meets(found.name, text), bool)
    assert found.name == UNKNOWN or meets(found.name, found.name)
