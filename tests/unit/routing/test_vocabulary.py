"""The vocabulary itself: its codes are real, its words are whole, its names are all readable."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from dicom_node.model.side import SIDE_CODES
from dicom_node.model.text import folded, squashed, words_of
from dicom_node.routing.views import view_of
from dicom_node.routing.vocabulary import vocabulary

VERIFIED_ELSEWHERE = {
    # pydicom has the synonym 272479007; PS3.16 before 2017 and PixelMed's concept list have these
    "399066004": "postero-anterior",
    "R-10214": "postero-anterior",
}
FITS = {
    # the same word with another name in SNOMED CT, or an organ or bone that the region holds
    "extremity": "limb extremity",
    "leg": "lower limb",
    "arm": "upper limb",
    "hip": "hip",
    "femur": "femur thigh",
    "knee": "knee patella popliteal",
    "lowerleg": "lower leg tibia fibula calf",
    "ankle": "ankle tarsal",
    "foot": "foot toe calcaneus sesamoid",
    "shoulder": "shoulder acromioclavicular scapula clavicle sternoclavicular axilla",
    "humerus": "humerus upper arm",
    "elbow": "elbow",
    "forearm": "forearm radius ulna",
    "wrist": "wrist carpus",
    "hand": "hand finger thumb",
    "pelvis": "pelvi ilium inguinal bladder prostate uterus rectum urethra anus",
    "sacrum": "sacrum sacral coccyx sacroiliac coccygeal",
    "lspine": "lumbar lumbo",
    "tspine": "thorac",
    "cspine": "cervic",
    "spine": "spine vertebra spinal",
    "abdomen": "abdom liver kidney pancreas spleen gallbladder colon stomach intestine "
    "aorta adrenal retroperitoneum duodenum biliary flank epigastric umbilical bile urinary ileum "
    "jejunum ureter",
    "chest": "chest thorax thoracic lung heart rib sternum mediastinum trachea bronchus coronary "
    "aorta esophagus",
    "breast": "breast",
    "head": "head cranium brain skull face facial sinus orbit eye mandible maxilla jaw nasal "
    "temporomandibular sella mastoid zygoma ear auditory cranial optic nose cerebellum parotid",
    "neck": "neck larynx thyroid pharynx carotid supraclavicular submandibular",
    "wholebody": "body",
}


def yaml_of(name: str) -> Any:
    text = files("dicom_node.routing").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


ANATOMY = yaml_of("anatomy")
ENTRIES = [
    *((name, (name,), entry) for name, entry in ANATOMY["regions"].items()),
    *(("+".join(e["regions"]), tuple(e["regions"]), e) for e in ANATOMY["combined"]),
]
MEANINGS: dict[str, str] = {}
for listed in concepts["SCT"].values():
    for code_value, (code_meaning, _) in listed.items():
        MEANINGS[code_value] = f"{MEANINGS.get(code_value, '')} {code_meaning}".lower()
SRT = mapping["SRT"]


def meaning_of(code: str) -> str | None:
    """Return what pydicom's copy of PS3.16 and of SNOMED's mapping says of a code."""
    return MEANINGS.get(SRT.get(code, code)) or VERIFIED_ELSEWHERE.get(code)


@pytest.mark.parametrize(
    ("regions", "entry"), [(r, e) for _, r, e in ENTRIES], ids=[n for n, _, _ in ENTRIES]
)
def test_every_code_of_a_region_is_a_snomed_code_for_it(
    regions: tuple[str, ...], entry: dict[str, Any]
) -> None:
    for code in [*entry["codes"]["SCT"], *entry["codes"]["SRT"]]:
        meaning = meaning_of(code)
        assert meaning is not None, f"{code} is in neither dictionary"
        for region in regions:
            assert any(word in meaning for word in FITS[region].split()), (code, meaning, region)


@pytest.mark.parametrize(
    ("name", "entry"), [(n, e) for n, _, e in ENTRIES], ids=[n for n, _, _ in ENTRIES]
)
def test_an_old_code_stands_beside_the_snomed_ct_code_that_replaced_it(
    name: str, entry: dict[str, Any]
) -> None:
    assert {SRT[code] for code in entry["codes"]["SRT"]} <= set(entry["codes"]["SCT"]), name


def test_no_code_stands_for_two_things() -> None:
    every = [c for _, _, e in ENTRIES for listed in e["codes"].values() for c in listed]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("name", ["views", "sides"])
def test_every_code_of_a_view_or_side_means_it(name: str) -> None:
    fits = {
        "AP": "antero-posterior",
        "PA": "postero-anterior",
        "LL": "left lateral",
        "RL": "right lateral",
        "ML": "medial-lateral",
        "LM": "lateral-medial",
        "AXIAL": "axial tangential",
        "LAO": "left anterior oblique",
        "RAO": "right anterior oblique",
        "LPO": "left posterior oblique",
        "RPO": "right posterior oblique",
        "CC": "cranio-caudal",
        "DP": "dorsoplantar",
        "PD": "plantodorsal",
        "R": "right",
        "L": "left",
        "B": "bilateral",
    }
    sides = {kind: [c for c, side in SIDE_CODES.items() if side == kind] for kind in "RLB"}
    views = {kind: entry["codes"] for kind, entry in yaml_of("views").items()}
    seen = 0
    for kind, codes in (sides if name == "sides" else views).items():
        for code in codes:
            seen += 1
            meaning = meaning_of(code)
            assert meaning is not None, f"{code} is in neither dictionary"
            wanted = fits.get(kind, kind.lower())
            phrases = wanted.split() if kind == "AXIAL" else [wanted]
            assert any(phrase in meaning for phrase in phrases), (kind, code, meaning)
            oblique = "oblique" in meaning
            assert not oblique or kind == "OBLIQUE" or wanted.endswith("oblique"), (kind, code)
    assert seen > 5


def test_every_common_anatomic_region_of_the_standard_is_known() -> None:
    """PS3.16 CID 4031: by its code or, where that is not listed, by its meaning."""
    listed = [
        (scheme, code, meaning)
        for scheme, keywords in cid_concepts[4031].items()
        for keyword in keywords
        for code, (meaning, cids) in concepts[scheme][keyword].items()
        if 4031 in cids
    ]
    assert len(listed) > 100
    words = vocabulary()
    unknown = {m for s, c, m in listed if not (words.of_code(s, c) or words.in_text(m))}
    assert unknown == {"Phantom"}


def test_the_views_of_the_standard_that_a_route_may_name_are_told_apart() -> None:
    """PS3.16 CID 4010."""
    found = {}
    for scheme, keywords in cid_concepts[4010].items():
        for keyword in keywords:
            for code, (meaning, cids) in concepts[scheme][keyword].items():
                if 4010 in cids:
                    item = {"value": code, "scheme": scheme, "meaning": meaning}
                    found[meaning] = view_of({"ViewCodeSequence": [item]}).name
    assert found["antero-posterior"] == "AP"
    assert found["postero-anterior"] == "PA"
    assert found["lateral"] == "LATERAL"
    assert found["left lateral"] == "LL"
    obliques = [name for meaning, name in found.items() if meaning.endswith("oblique")]
    assert len(obliques) > 8
    assert not {"AP", "PA", "LATERAL", "FRONTAL"} & set(obliques)


def test_a_code_of_another_scheme_is_not_taken_for_a_snomed_code() -> None:
    assert vocabulary().of_code("SCT", "72696002") == {"knee"}
    assert vocabulary().of_code("99LOCAL", "72696002") == frozenset()
    assert vocabulary().of_code("SRT", "t-d9200") == {"knee"}
    assert vocabulary().of_code("SNM3", "T-D9200") == {"knee"}


@pytest.mark.parametrize("text", ANATOMY["generic"])
def test_a_generic_value_names_no_region(text: str) -> None:
    assert vocabulary().is_generic(text)
    assert vocabulary().of_body_part(text).regions == frozenset()


@pytest.mark.parametrize("phrase", ANATOMY["ignored"])
def test_an_ignored_phrase_names_no_region(phrase: str) -> None:
    assert vocabulary().in_text(phrase) == frozenset()


@pytest.mark.parametrize("name", ANATOMY["regions"])
def test_every_word_of_a_region_is_found_and_means_it(name: str) -> None:
    words = vocabulary()
    lost = {}
    for language, listed in ANATOMY["regions"][name]["words"].items():
        for word in listed:
            found = words.in_text(word.replace("*", ""))
            if not any(words.agree(frozenset({name}), frozenset({one})) for one in found):
                lost[f"{word} ({language})"] = sorted(found)
    assert lost == {}


@pytest.mark.parametrize(
    "text",
    [
        "ship", "chip", "Hippokrates", "sneek", "armada", "farming", "legacy", "alleged", "footage",
        "handle", "beforehand", "necklace", "headline", "shandy", "spineless", "chestnut",
        "surface", "backup", "abdicate", "Kneeland", "earnest",
    ],
)  # fmt: skip
def test_an_english_word_counts_only_whole(text: str) -> None:
    hits = [h for h in vocabulary().hits(text) if h.meaning.language == "en"]
    assert hits == []


ANNEX_L = """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ARM AXILLA BACK BILEDUCT BLADDER BRAIN BREAST BRONCHUS
    BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS
    CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW
    ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEAD HEADNECK
    HEART HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LOWERLEG LOWERLIMB
    LSPINE LSSPINE LUNG MANDIBLE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN
    NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE
    RECTUM RIB SCALP SCAPULA SCLERA SCROTUM SELLA SHOULDER SKULL SPINE SPLEEN SSPINE STERNUM
    STOMACH SUBMANDIBULAR TESTIS THIGH THUMB THYMUS THYROID TIBIAFIBULA TLSPINE TMJ TOE TONGUE
    TRACHEA TSPINE UPPERARM UPPERLIMB URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA
"""


def test_a_defined_term_of_the_standard_is_known_and_not_guessed() -> None:
    """PS3.16 Annex L, Body Part Examined."""
    readings = {term: vocabulary().of_body_part(term) for term in ANNEX_L.split()}
    assert [term for term, found in readings.items() if not found.regions] == []
    assert [term for term, found in readings.items() if found.misspelt] == []
    # one letter from "carotid"
    assert readings["PAROTID"].regions == {"head"}


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("PELVIS_HIP", {"pelvis", "hip"}),
        ("HIP_PELVIS", {"pelvis", "hip"}),
        ("LOWER_EXM", {"leg"}),
        ("LOW_EXM", {"leg"}),
        ("UP_EXM", {"arm"}),
        ("UPPER_EXM", {"arm"}),
        ("L_SPINE", {"lspine"}),
        ("KNEE_BILATERAL", {"knee"}),
        ("RKNEE", {"knee"}),
        ("LHIP", {"hip"}),
        ("TIB_FIB", {"lowerleg"}),
    ],
)
def test_what_makers_send_beside_the_standard_is_known(text: str, regions: set[str]) -> None:
    reading = vocabulary().of_body_part(text)
    assert reading.regions == regions
    assert reading.misspelt == ""


def test_a_larger_region_is_met_by_its_part_and_not_the_other_way() -> None:
    words = vocabulary()
    assert words.widened({"knee"}) == {"knee", "leg", "extremity"}
    assert words.widened({"leg"}) == {"leg", "extremity"}
    assert words.narrowest(frozenset({"knee", "leg", "extremity"})) == {"knee"}
    assert words.narrowest(frozenset({"hip", "pelvis"})) == {"hip", "pelvis"}
    assert words.refines(frozenset({"knee"}), frozenset({"extremity"}))
    assert not words.refines(frozenset({"extremity"}), frozenset({"knee"}))
    assert not words.refines(frozenset({"chest"}), frozenset({"extremity"}))


NAMES = st.sampled_from(
    [(name, name) for name in ANATOMY["regions"]]
    + [(name, term) for name, e in ANATOMY["regions"].items() for term in e["terms"]]
)


@given(named=NAMES, data=st.data())
def test_case_punctuation_and_space_do_not_matter_for_a_body_part(
    named: tuple[str, str], data: st.DataObject
) -> None:
    _, term = named
    plain = vocabulary().of_body_part(term)
    assert plain.regions
    separator = data.draw(st.sampled_from(["", " ", "  ", "_", "-", ".", "/", ", "]))
    ends = data.draw(st.sampled_from(["", " ", ".", "^", "*", "\t", "-"]))
    case = data.draw(st.sampled_from([str.upper, str.lower, str.title]))
    text = ends + separator.join(map(case, term.split())) + ends
    assert vocabulary().of_body_part(text).regions == plain.regions


@given(st.text())
def test_no_text_upsets_the_reader(text: str) -> None:
    words = vocabulary()
    known = words.regions
    assert words.in_text(text) <= known
    assert words.of_body_part(text).regions <= known
    assert words.of_code(text, text) <= known
    assert isinstance(words.is_generic(text), bool)


@given(st.text())
@example("A\u13a0")  # Cherokee folds to its upper case
@example("\u01fdA")  # an accent on a letter that is two
def test_folding_a_folded_text_changes_nothing(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    assert squashed(text) == "".join(words_of(text))


def test_a_body_part_with_one_wrong_letter_is_read_and_said_to_be_misspelt() -> None:
    reading = vocabulary().of_body_part("SHOUDLER")
    assert reading.regions == {"shoulder"}
    assert reading.misspelt == "shoulder"
    assert vocabulary().of_body_part("KNEE").misspelt == ""
    assert vocabulary().of_body_part("WIDGET").regions == frozenset()


def test_a_short_word_and_one_near_two_regions_are_not_guessed() -> None:
    assert vocabulary().of_body_part("HIX").regions == frozenset()
    assert vocabulary().of_body_part("BSPINE").regions == frozenset()  # cspine, tspine, lspine


def test_a_description_is_never_read_by_its_misspellings() -> None:
    assert vocabulary().in_text("SHOUDLER") == frozenset()


@pytest.mark.parametrize("text", ["knee", "KNEES", "Knie", "L-Spine", "lumbar spine", "shouldr"])
def test_a_body_part_that_images_can_meet_needs_no_mending(text: str) -> None:
    assert vocabulary().mend_body_part(text) == ""


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("knea", "did you mean `knee`?"),
        ("OTHER", "lspine"),
        ("", "lspine"),
        ("qqqq", "lspine"),
    ],
)
def test_a_body_part_that_no_image_can_meet_is_told_how_to_mend(text: str, fix: str) -> None:
    assert fix in vocabulary().mend_body_part(text)
