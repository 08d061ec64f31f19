"""Each condition of the language on one instance: the verdict, the value and where it stood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, UID_dictionary

from dicom_node.model.conditions import Conditions
from dicom_node.model.decisions import Verdict
from dicom_node.model.instances import AttributeValue, InstanceFacts
from dicom_node.model.peers import Peer, WebPeer
from dicom_node.routing.conditions import judge, reads
from dicom_node.routing.reading import READS, Reading
from tests.factories import facts

PEERS = {
    "xray-1": Peer(ae_title="DXR01", host="10.0.0.21", port=104),
    "pacs": Peer(ae_title="PACS", host="10.0.0.5", port=104),
    "the archive of the region": WebPeer(url="https://archive.example/dicom-web"),
    "病院": WebPeer(url="https://hospital.example/dicom-web"),
}


def judged(when: dict[str, object], item: InstanceFacts) -> Verdict:
    """Return the one verdict of a rule with one condition."""
    reading = Reading(item.attributes, item.sop_class_uid)
    (verdict,) = judge(Conditions.model_validate(when), item, PEERS, reading)
    return verdict


def test_a_rule_without_conditions_has_no_verdicts() -> None:
    item = facts()
    assert judge(Conditions(), item, PEERS, Reading(item.attributes, item.sop_class_uid)) == ()


@pytest.mark.parametrize("wanted", ["DX", ["CR", "DX"], "dx"])
def test_modality(wanted: object) -> None:
    verdict = judged({"modality": wanted}, facts())
    assert verdict.holds
    assert (verdict.condition, verdict.seen, verdict.where) == (
        "modality",
        "DX",
        "Modality (0008,0060)",
    )
    refused = judged({"modality": ["CR", "CT"]}, facts())
    assert not refused.holds
    assert refused.wanted == "CR or CT"


def test_body_part_is_met_by_any_name_and_shows_how_it_was_read() -> None:
    verdict = judged({"body_part": "knee"}, facts(SeriesDescription="Knie re."))
    assert verdict.holds
    assert verdict.seen == "Knie re. (knee)"
    assert verdict.where == "SeriesDescription (0008,103E)"
    assert judged({"body_part": "knee"}, facts(BodyPartExamined="KNEE")).seen == "KNEE"


def test_body_part_may_be_wanted_by_any_name_and_by_a_larger_region() -> None:
    knee = facts(BodyPartExamined="KNEE")
    assert judged({"body_part": "Knie"}, knee).holds
    assert judged({"body_part": "leg"}, knee).holds
    assert judged({"body_part": ["hip", "extremity"]}, knee).holds
    assert not judged({"body_part": "knee"}, facts(BodyPartExamined="LEG")).holds


def test_a_precise_region_is_shown_without_those_that_hold_it() -> None:
    item = facts(BodyPartExamined="EXTREMITY", SeriesDescription="LOWER LEG")
    verdict = judged({"body_part": "knee"}, item)
    assert (verdict.holds, verdict.seen) == (False, "EXTREMITY (lowerleg)")


def test_view_and_unknown_view() -> None:
    assert judged({"view": ["AP", "PA"]}, facts(ViewPosition="AP")).holds
    assert not judged({"view": ["AP", "PA"]}, facts(ViewPosition="LATERAL")).holds
    assert not judged({"view": ["AP", "PA"]}, facts()).holds
    assert judged({"view": ["AP", "unknown"]}, facts()).holds
    seen = judged({"view": "AP"}, facts(SeriesDescription="Knie a.p.")).seen
    assert seen == "Knie a.p. (AP)"


def test_laterality_and_an_image_that_does_not_say() -> None:
    assert judged({"laterality": "R"}, facts(ImageLaterality="R")).holds
    assert not judged({"laterality": "R"}, facts(ImageLaterality="L")).holds
    assert not judged({"laterality": ["R", "L"]}, facts()).holds
    assert judged({"laterality": ["R", "U"]}, facts()).holds
    assert judged({"laterality": "L"}, facts(ImageLaterality="B")).holds
    assert judged({"laterality": "R"}, facts(SeriesDescription="KNEE-RT")).seen == "KNEE-RT (R)"


@pytest.mark.parametrize("wanted", ["xray-1", "DXR01", ["pacs", "xray-1"]])
def test_sender_by_peer_name_and_by_ae_title(wanted: object) -> None:
    verdict = judged({"sender": wanted}, facts(sender="DXR01"))
    assert verdict.holds
    assert verdict.seen == "DXR01 (peer xray-1)"
    assert verdict.where == "calling AE title"
    assert not judged({"sender": wanted}, facts(sender="OTHER")).holds


def test_what_was_pulled_by_dicomweb_meets_its_peer_s_name() -> None:
    item = facts(sender="the archive of t")
    assert judged({"sender": "the archive of the region"}, item).holds
    assert not judged({"sender": "pacs"}, item).holds


def test_a_file_that_nobody_sent_meets_no_sender_and_says_so() -> None:
    verdict = judged({"sender": "xray-1"}, facts(sender=""))
    assert not verdict.holds
    assert not judged({"sender": "病院"}, facts(sender="")).holds
    assert verdict.note == "it was not received from anyone"


@pytest.mark.parametrize(
    "wanted",
    ["1.2.840.10008.5.1.4.1.1.2", "CT Image Storage", "CTImageStorage", "ct image storage"],
)
def test_sop_class_by_uid_and_by_name(wanted: str) -> None:
    item = facts(sop_class=str(CTImageStorage))
    assert judged({"sop_class": wanted}, item).holds
    assert judged({"sop_class": wanted}, item).seen == "CT Image Storage"
    other = facts(sop_class=str(ComputedRadiographyImageStorage))
    assert not judged({"sop_class": wanted}, other).holds
    assert not judged({"sop_class": wanted}, facts(sop_class="")).holds


@pytest.mark.parametrize(
    "attributes",
    [
        {"ContrastBolusAgent": "IV"},
        {"ContrastBolusAgent": "Omnipaque 350"},
        {"ContrastBolusAgent": "non-ionic iodine"},
        {"ContrastBolusVolume": 80.0},
        {"ContrastBolusAgentSequence": [{"value": "c", "scheme": "SCT", "meaning": "Iohexol"}]},
    ],
)
def test_contrast_that_was_given(attributes: dict[str, AttributeValue]) -> None:
    assert judged({"contrast": True}, facts(**attributes)).holds
    refused = judged({"contrast": False}, facts(**attributes))
    assert not refused.holds
    assert refused.seen == "given"
    assert next(iter(attributes)) in refused.where


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"ContrastBolusAgent": "NONE"},
        {"ContrastBolusAgent": "No"},
        {"ContrastBolusAgent": "ohne KM"},
        {"ContrastBolusAgent": "W/O CONTRAST"},
        {"ContrastBolusAgent": "N/A"},
        {"ContrastBolusVolume": 0.0},
        {"ContrastBolusVolume": 0},
        {"ContrastBolusAgentSequence": [{"value": "", "scheme": "", "meaning": "None"}]},
    ],
)
def test_contrast_that_was_not_given(attributes: dict[str, AttributeValue]) -> None:
    assert judged({"contrast": False}, facts(**attributes)).holds
    assert not judged({"contrast": True}, facts(**attributes)).holds


@pytest.mark.parametrize(
    ("thickness", "holds"), [(0.6, False), (1.0, True), (5.0, True), (5, True), (5.01, False)]
)
def test_slice_thickness_is_a_closed_range(thickness: float, holds: bool) -> None:
    when = {"slice_thickness_mm": {"min": 1, "max": 5}}
    verdict = judged(when, facts(SliceThickness=thickness))
    assert verdict.holds is holds
    assert verdict.wanted == "at least 1 and at most 5"
    assert verdict.where == "SliceThickness (0018,0050)"


def test_an_image_without_slice_thickness_is_in_no_range() -> None:
    assert not judged({"slice_thickness_mm": {"max": 5}}, facts()).holds
    assert not judged({"slice_thickness_mm": {"min": 0}}, facts(SliceThickness="thin")).holds
    assert judged({"slice_thickness_mm": {"min": 0}}, facts()).wanted == "at least 0"


def test_image_type_wants_all_and_not_image_type_none() -> None:
    item = facts(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    assert judged({"image_type": ["original", "AXIAL"]}, item).holds
    assert not judged({"image_type": ["ORIGINAL", "LOCALIZER"]}, item).holds
    assert judged({"not_image_type": "LOCALIZER"}, item).holds
    assert not judged({"not_image_type": ["LOCALIZER", "AXIAL"]}, item).holds
    assert not judged({"image_type": "ORIGINAL"}, facts()).holds
    assert judged({"not_image_type": "LOCALIZER"}, facts()).holds


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ({"equals": "siemens"}, True),
        ({"equals": ["GE", "SIEMENS"]}, True),
        ({"equals": "SIE"}, False),
        ({"contains": "mens"}, True),
        ({"contains": "GE"}, False),
        ({"matches": "^sie.*s$"}, True),
        ({"matches": "^GE"}, False),
        ({"present": True}, True),
        ({"present": False}, False),
        ({"range": {"min": 1}}, False),
    ],
)
def test_any_element_can_be_tested(test: dict[str, object], holds: bool) -> None:
    verdict = judged({"attributes": {"Manufacturer": test}}, facts(Manufacturer="SIEMENS"))
    assert verdict.holds is holds
    assert verdict.condition == "attributes.Manufacturer"
    assert (verdict.seen, verdict.where) == ("SIEMENS", "Manufacturer (0008,0070)")


@pytest.mark.parametrize(
    ("value", "test", "holds"),
    [
        ([40.0, 600.0], {"equals": "600"}, True),
        ([40.0, 600.0], {"range": {"min": 500}}, True),
        ([40.0, 600.0], {"range": {"min": 700}}, False),
        (120.0, {"equals": "120"}, True),
        (120.0, {"equals": "120.0"}, True),
        (0, {"present": True}, True),
        (0, {"range": {"min": 0, "max": 0}}, True),
        ([], {"present": False}, True),
        ("", {"present": True}, False),
        ([{"value": "P1", "scheme": "99X", "meaning": "Knee"}], {"equals": "P1"}, True),
    ],
)
def test_numbers_several_values_and_codes_can_be_tested(
    value: AttributeValue, test: dict[str, object], holds: bool
) -> None:
    assert judged({"attributes": {"KVP": test}}, facts(KVP=value)).holds is holds


@pytest.mark.parametrize("test", [{"equals": "x"}, {"contains": "x"}, {"matches": ""}])
def test_an_element_that_is_absent_equals_nothing(test: dict[str, object]) -> None:
    verdict = judged({"attributes": {"StationName": test}}, facts())
    assert not verdict.holds
    assert verdict.seen == ""


@pytest.mark.parametrize(
    "keyword", ["PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate"]
)
def test_patient_data_can_be_tested_but_is_not_shown(keyword: str) -> None:
    verdict = judged({"attributes": {keyword: {"present": True}}}, facts(**{keyword: "SECRET"}))
    assert verdict.holds
    assert verdict.seen == "(not shown: patient data)"


TEXT = st.text(max_size=12)
KEYWORDS = st.sampled_from(
    ["Manufacturer", "KVP", "WindowCenter", "SeriesDescription", "ProtocolName", "SliceThickness"]
)
WHEN = st.fixed_dictionaries(
    {},
    optional={
        "modality": st.sampled_from(["CT", "CR", "DX"]),
        "body_part": st.sampled_from(["knee", "hip", "abdomen"]),
        "view": st.sampled_from(["AP", "lateral", "unknown"]),
        "laterality": st.sampled_from(["R", "L", "U"]),
        "contrast": st.booleans(),
        "slice_thickness_mm": st.just({"max": 5}),
        "image_type": st.just("ORIGINAL"),
        "not_image_type": st.just("LOCALIZER"),
        "attributes": st.dictionaries(KEYWORDS, st.builds(lambda t: {"contains": t}, TEXT)),
    },
)
ATTRIBUTES = st.dictionaries(
    st.one_of(KEYWORDS, st.sampled_from(["BodyPartExamined", "ViewPosition", "ImageType"])),
    st.one_of(TEXT, st.floats(), st.integers(), st.lists(TEXT, max_size=3)),
)


@given(WHEN, ATTRIBUTES, ATTRIBUTES)
def test_only_what_is_read_can_change_a_verdict(
    when: dict[str, object],
    attributes: dict[str, AttributeValue],
    others: dict[str, AttributeValue],
) -> None:
    conditions = Conditions.model_validate(when)
    first = facts(**attributes)
    reading = Reading(first.attributes, first.sop_class_uid)
    verdicts = judge(conditions, first, {}, reading)
    unread = {
        keyword: value
        for keyword, value in others.items()
        if keyword not in {*attributes, *reads(conditions), *READS}
    }
    second = facts(**attributes, **unread)
    again = Reading(second.attributes, second.sop_class_uid)
    assert judge(conditions, second, {}, again) == verdicts
    given_conditions = sum(len(v) if k == "attributes" else 1 for k, v in when.items())
    assert len(verdicts) == given_conditions


def test_every_sop_class_is_met_by_its_uid_and_by_its_name() -> None:
    """Some names are longer than what is shown of them."""
    for uid, (name, kind, *_) in UID_dictionary.items():
        if kind == "SOP Class" and name:
            item = facts(sop_class=uid)
            assert judged({"sop_class": uid}, item).holds, uid
            assert judged({"sop_class": name}, item).holds, name
