"""Body part by any name: spellings, codes, descriptions in many languages, and whom to trust."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.model.instances import AttributeValue
from dicom_node.routing.anatomy import READS, Anatomy, anatomy_of


def code(value: str, meaning: str, scheme: str = "SCT") -> list[dict[str, str]]:
    return [{"value": value, "scheme": scheme, "meaning": meaning}]


def read(**attributes: AttributeValue) -> Anatomy:
    return anatomy_of(attributes)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("KNEE", "knee"),
        ("knee", "knee"),
        (" Knee ", "knee"),
        ("KNEES", "knee"),
        ("KNEE_JOINT", "knee"),
        ("LT KNEE", "knee"),
        ("KNEE AP", "knee"),
        ("PATELLA", "knee"),
        ("KNIE", "knee"),
        ("HIP", "hip"),
        ("HIPJOINT", "hip"),
        ("HÜFTE", "hip"),
        ("HUEFTE", "hip"),
        ("H?FTE", "hip"),
        ("LSPINE", "lspine"),
        ("L-SPINE", "lspine"),
        ("L SPINE", "lspine"),
        ("LUMBAR SPINE", "lspine"),
        ("LWS", "lspine"),
        ("ABDOMEN", "abdomen"),
        ("ABD", "abdomen"),
        ("KUB", "abdomen"),
        ("CXR", "chest"),
        ("THORAX", "chest"),
        ("TIBFIB", "lowerleg"),
        ("T-SPINE", "tspine"),
        ("HWS", "cspine"),
        ("UNTERSCHENKEL", "lowerleg"),
        ("SKULL", "head"),
        ("WHOLE BODY", "wholebody"),
    ],
)
def test_a_body_part_is_known_by_any_spelling(text: str, region: str) -> None:
    found = read(BodyPartExamined=text)
    assert region in found.regions
    assert found.seen == " ".join(text.split())
    assert found.where == "BodyPartExamined (0018,0015)"


@pytest.mark.parametrize(
    ("scheme", "value", "meaning", "region"),
    [
        ("SCT", "72696002", "Knee", "knee"),
        ("SCT", "49076000", "Knee joint", "knee"),
        ("SRT", "T-D9200", "Knee", "knee"),
        ("SNM3", "T-15710", "Hip joint", "hip"),
        ("99SDM", "T-11503", "Lumbar spine", "lspine"),
        ("SCT", "818981001", "Abdomen", "abdomen"),
        ("SCT", "113345001", "", "abdomen"),
        ("99LOCAL", "K1", "Kniegelenk", "knee"),
        ("FMA", "24974", "Knee", "knee"),
    ],
)
@pytest.mark.parametrize("keyword", ["AnatomicRegionSequence", "PrimaryAnatomicStructureSequence"])
def test_a_code_is_known_by_value_or_by_meaning(
    keyword: str, scheme: str, value: str, meaning: str, region: str
) -> None:
    found = anatomy_of({keyword: code(value, meaning, scheme)})
    assert found.named == {region}
    assert found.where.startswith(keyword)
    assert value in found.seen


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("Knie re. a.p.", "knee"),
        ("Kniegelenk links in 2 Ebenen", "knee"),
        ("Hüfte li. axial", "hip"),
        ("HÃ¼fte links", "hip"),
        ("Beckenübersicht", "pelvis"),
        ("LWS in 2 Ebenen", "lspine"),
        ("Abdomen nativ CT", "abdomen"),
        ("Genou droit face", "knee"),
        ("RX HANCHE G", "hip"),
        ("Rachis lombaire F+P", "lspine"),
        ("Rodilla derecha AP y lateral", "knee"),
        ("Cadera izq.", "hip"),
        ("TC abdomen sin contraste", "abdomen"),
        ("Ginocchio dx", "knee"),
        ("Anca sinistra", "hip"),
        ("Joelho direito", "knee"),
        ("Quadril AP", "hip"),
        ("Knie rechts staand", "knee"),
        ("Heup li", "hip"),
        ("Knä höger", "knee"),
        ("Höftled vänster", "hip"),
        ("Kolano prawe", "knee"),
        ("Staw biodrowy lewy", "hip"),
        ("Polvi oikea", "knee"),
        ("Koleno vpravo", "knee"),
        ("Sağ diz", "knee"),
        ("Правый коленный сустав", "knee"),
        ("Тазобедренный сустав слева", "hip"),
        ("Γόνατο δεξί", "knee"),
        ("膝関節正面", "knee"),
        ("左膝", "knee"),
        ("股関節", "hip"),
        ("腹部単純CT", "abdomen"),
        ("单纯腹CT", "abdomen"),
        ("뇌 CT", "head"),
        ("膝关节正侧位", "knee"),
        ("髋关节", "hip"),
        ("腰椎正侧位", "lspine"),
        ("무릎 정면", "knee"),
        ("고관절 AP", "hip"),
        ("مفصل الركبة", "knee"),
        ("ברך ימין", "knee"),
        ("XR KNEE 3V LT", "knee"),
        ("LTKNEE", "knee"),
        ("KneeAP", "knee"),
    ],
)
@pytest.mark.parametrize("keyword", ["SeriesDescription", "ProtocolName", "StudyDescription"])
def test_a_description_is_read_in_many_languages(keyword: str, text: str, region: str) -> None:
    found = anatomy_of({keyword: text})
    assert region in found.regions, found
    assert found.seen == text
    assert keyword in found.where


@pytest.mark.parametrize(
    "text",
    ["ship", "Patient on a trip", "chip", "Kniffel", "AP", "Serie 1", "T1 tse tra", "???", "left"],
)
def test_a_text_without_anatomy_names_no_region(text: str) -> None:
    assert read(SeriesDescription=text).regions == frozenset()


@pytest.mark.parametrize("generic", ["OTHER", "UNKNOWN", "", "Bone", "TRAUMA", "N/A", "null"])
def test_a_body_part_that_says_nothing_leaves_it_to_the_description(generic: str) -> None:
    found = read(BodyPartExamined=generic, SeriesDescription="Hip left")
    assert found.named == {"hip"}
    assert "contradict" not in found.why


def test_a_body_part_that_says_nothing_is_shown_when_nothing_else_tells() -> None:
    found = read(BodyPartExamined="OTHER", SeriesDescription="AP")
    assert (found.regions, found.seen) == (frozenset(), "OTHER")
    assert "names no region" in found.why
    unknown = read(BodyPartExamined="WIDGET")
    assert unknown.seen == "WIDGET"
    assert "does not know it" in unknown.why
    assert read().why == (
        "neither Body Part Examined nor a code nor a description names a known region"
    )


def test_extremity_is_made_precise_by_the_description() -> None:
    found = read(BodyPartExamined="EXTREMITY", SeriesDescription="Knie li.")
    assert "knee" in found.regions
    assert found.seen == "EXTREMITY"
    assert "made precise by “Knie li.” in SeriesDescription (0008,103E)" in found.why


def test_extremity_alone_is_no_knee() -> None:
    assert read(BodyPartExamined="EXTREMITY").regions == {"extremity"}
    assert read(BodyPartExamined="LEG").regions == {"leg", "extremity"}


def test_extremity_is_not_made_precise_by_what_is_no_part_of_it() -> None:
    found = read(BodyPartExamined="EXTREMITY", SeriesDescription="CHEST PA")
    assert "chest" not in found.regions
    assert "contradicted by “CHEST PA”" in found.why


def test_the_body_part_is_trusted_before_the_code_and_the_code_before_a_description() -> None:
    all_three = read(
        BodyPartExamined="KNEE",
        AnatomicRegionSequence=code("29836001", "Hip"),
        SeriesDescription="Chest",
    )
    assert all_three.named == {"knee"}
    assert "contradicted by “(29836001, SCT, Hip)”" in all_three.why
    assert "“Chest” in SeriesDescription" in all_three.why
    two = read(AnatomicRegionSequence=code("29836001", "Hip"), SeriesDescription="Chest")
    assert two.named == {"hip"}
    assert "contradicted by “Chest”" in two.why


def test_what_is_nearer_to_the_image_is_trusted_before_the_studys_description() -> None:
    found = read(ProtocolName="Knee AP", StudyDescription="Hip left")
    assert found.named == {"knee"}
    assert "contradicted by “Hip left” in StudyDescription" in found.why


def test_neighbours_that_an_image_shows_too_are_no_contradiction() -> None:
    found = read(BodyPartExamined="PELVIS", SeriesDescription="Hüfte li.")
    assert {"pelvis", "hip"} <= found.regions
    assert "contradicted" not in found.why


def test_a_pelvis_alone_is_not_taken_for_a_hip() -> None:
    assert "hip" not in read(BodyPartExamined="PELVIS").regions


def test_a_study_of_two_body_parts_does_not_make_one_image_precise() -> None:
    found = read(BodyPartExamined="EXTREMITY", StudyDescription="Knie und Sprunggelenk re.")
    assert found.named == {"extremity"}


def test_a_study_of_two_body_parts_alone_names_both_and_says_so() -> None:
    found = read(StudyDescription="Knie und Hüfte re.")
    assert found.named == {"knee", "hip"}
    assert "may show only one of them" in found.why


def test_several_regions_in_one_name_all_count() -> None:
    found = read(BodyPartExamined="ABDOMENPELVIS")
    assert {"abdomen", "pelvis"} <= found.regions
    assert {"chest", "abdomen", "pelvis"} <= read(SeriesDescription="CT CAP").regions


def test_a_misspelt_body_part_is_read_and_said_so() -> None:
    found = read(BodyPartExamined="SHOUDLER")
    assert found.named == {"shoulder"}
    assert found.why == "taken for a misspelt “shoulder”"


def test_the_coil_and_the_positioning_are_no_anatomy() -> None:
    assert read(ProtocolName="Lumbar, KNEE COIL").named == {"lspine"}
    assert read(SeriesDescription="feet first supine").named == frozenset()


def test_a_long_text_is_cut_where_it_is_shown() -> None:
    found = read(StudyDescription="knee " + "x" * 300)
    assert found.named == {"knee"}
    assert len(found.seen) <= 64


ATTRIBUTES = st.dictionaries(
    st.sampled_from(READS),
    st.one_of(
        st.text(),
        st.integers(),
        st.floats(),
        st.lists(st.text(), max_size=3),
        st.lists(
            st.fixed_dictionaries({"value": st.text(), "scheme": st.text(), "meaning": st.text()}),
            max_size=2,
        ),
    ),
)


@given(ATTRIBUTES)
def test_no_header_upsets_the_reader(attributes: dict[str, AttributeValue]) -> None:
    found = anatomy_of(attributes)
    assert found.named <= found.regions
    assert bool(found.regions) == bool(found.named)
    assert len(found.seen) <= 64


@given(
    st.sampled_from(["KNEE", "HIP", "EXTREMITY", "OTHER", ""]),
    st.sampled_from(["Knee left", "Hüfte", "AP", ""]),
)
def test_attributes_that_are_not_read_change_nothing(part: str, text: str) -> None:
    few = {"BodyPartExamined": part, "SeriesDescription": text}
    many = {**few, "PatientComments": "chest", "InstitutionName": "Hip Centre", "StationName": "KN"}
    assert anatomy_of(few) == anatomy_of(many)
