"""The condition language: what is written is checked, and said back in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.model.conditions import Conditions, Range, Test
from dicom_node.model.findings import Side
from dicom_node.model.wording import either, in_words


def test_one_value_is_a_list_of_one() -> None:
    when = Conditions.model_validate({"modality": "CT", "laterality": "R", "view": ["AP", "PA"]})
    assert when.modality == ["CT"]
    assert when.laterality == [Side.RIGHT]
    assert when.view == ["AP", "PA"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"modalty": "CT"},
        {"modality": []},
        {"laterality": "both"},
        {"laterality": []},
        {"attributes": {"PatientPostion": {"equals": "HFS"}}},
        {"attributes": {"QualityControlSubjct": {"present": False}}},
        {"attributes": {"TransferSyntaxUID": {"present": True}}},
        {"attributes": {"AffectedSOPClassUID": {"present": True}}},
        {"attributes": {"PixelData": {"present": True}}},
        {"attributes": {"FrameIncrementPointer": {"present": False}}},
        {"sop_class": "CT Image"},
        {"sop_class": ""},
        {"modality": "CR, DX"},
        {"modality": ["CT", "CR\\DX"]},
        {"image_type": "ORIGINAL\\PRIMARY"},
        {"not_image_type": "LOCALIZER, SECONDARY"},
        {"sop_class": ["CT Image Storage", "1.2.840.10008.1.2.1"]},
        {"sop_class": "Implicit VR Little Endian"},
        {"slice_thickness_mm": {}},
        {"slice_thickness_mm": {"min": 5, "max": 1}},
        {"slice_thickness_mm": 5},
        {"contrast": "maybe"},
        {"attributes": {"KVP": {}}},
        {"attributes": {"KVP": {"present": True, "equals": "70"}}},
        {"attributes": {"KVP": {"is": "70"}}},
    ],
)
def test_what_is_no_condition_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Conditions.model_validate(wrong)


@pytest.mark.parametrize(
    "keyword",
    ["PatientPosition", "OverlayRows", "ImageLocation", "SmallestImagePixelValue", "LUTData"],
)
def test_any_keyword_of_a_data_set_may_be_tested(keyword: str) -> None:
    when = Conditions.model_validate({"attributes": {keyword: {"present": True}}})
    assert list(when.attributes) == [keyword]


@pytest.mark.parametrize(
    "wanted",
    ["CT Image Storage", "CTImageStorage", "1.2.840.10008.5.1.4.1.1.2", "1.3.46.670589.5.0.1"],
)
def test_a_sop_class_is_wanted_by_its_uid_or_by_its_name(wanted: str) -> None:
    assert Conditions.model_validate({"sop_class": wanted}).sop_class == [wanted]


def test_conditions_do_not_change() -> None:
    when = Conditions.model_validate({"modality": "CT"})
    with pytest.raises(ValidationError):
        when.modality = ["MR"]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({}, "any image"),
        ({"modality": ["CR", "DX"], "body_part": "knee"}, "CR, DX; body part knee"),
        ({"view": ["AP", "PA", "unknown"]}, "view AP, PA or unknown"),
        ({"laterality": ["R", "U"]}, "side right or unknown"),
        ({"sender": "xray"}, "from xray"),
        ({"sop_class": "CT Image Storage"}, "SOP class CT Image Storage"),
        ({"contrast": False}, "without contrast"),
        ({"contrast": True}, "with contrast"),
        ({"slice_thickness_mm": {"max": 5}}, "slices at most 5 mm"),
        ({"slice_thickness_mm": {"min": 0.5}}, "slices at least 0.5 mm"),
        ({"slice_thickness_mm": {"min": 1, "max": 5}}, "slices 1 to 5 mm"),
        ({"image_type": ["ORIGINAL", "PRIMARY"]}, "image type with ORIGINAL and PRIMARY"),
        ({"not_image_type": "LOCALIZER"}, "image type without LOCALIZER"),
        ({"attributes": {"KVP": {"range": {"min": 60}}}}, "KVP is at least 60"),
        (
            {"attributes": {"StudyDescription": {"contains": "hip"}}},
            "StudyDescription contains hip",
        ),
        ({"attributes": {"KVP": {"equals": ["70", "80"]}}}, "KVP is 70 or 80"),
        ({"attributes": {"KVP": {"matches": "^7"}}}, "KVP matches /^7/"),
        ({"attributes": {"KVP": {"present": True}}}, "KVP is present"),
        ({"attributes": {"KVP": {"present": False}}}, "KVP is absent"),
    ],
)
def test_conditions_are_said_in_words(when: dict[str, Any], words: str) -> None:
    assert in_words(Conditions.model_validate(when)) == words


def test_no_condition_is_left_unsaid() -> None:
    """A key added to the language must be added to the words."""
    values: dict[str, Any] = {
        "laterality": "R",
        "sop_class": "CT Image Storage",
        "contrast": True,
        "slice_thickness_mm": {"max": 5},
        "attributes": {"KVP": {"present": True}},
    }
    for key in Conditions.model_fields:
        when = Conditions.model_validate({key: values.get(key, "SOMETHING")})
        assert in_words(when) != "any image", key


def test_either_has_an_or_before_the_last() -> None:
    assert either(["a"]) == "a"
    assert either(["a", "b"]) == "a or b"
    assert either(iter("abc")) == "a, b or c"


def test_a_range_needs_an_end_and_a_test_a_key() -> None:
    with pytest.raises(ValidationError, match="give min, max or both"):
        Range()
    with pytest.raises(ValidationError, match="exactly one of"):
        Test()
