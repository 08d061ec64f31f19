"""The explanation: what a person reads, what a script reads, and nothing of the patient in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag
from pydicom.uid import BasicTextSRStorage

from dicom_node.model.decisions import Decision
from dicom_node.model.instances import AttributeValue, InstanceFacts
from dicom_node.model.peers import Peer
from dicom_node.model.routes import Route
from dicom_node.routing import decide
from dicom_node.routing.explain import as_json, as_text
from dicom_node.routing.sources import may_be_shown
from tests.factories import facts
from tests.unit.routing.pipeline_specs import pipeline

SECRET = "Zyxwvut"
SPECS = {"knee_kl": pipeline(when={"body_part": "knee", "view": ["AP", "unknown"]})}
PEERS = {"xray": Peer(ae_title="XRAY", host="127.0.0.1", port=104)}


def route(name: str, stop: bool = False, **when: Any) -> Route:
    return Route.model_validate(
        {"name": name, "when": when, "run": "knee_kl", "send_to": ["pacs"], "stop": stop}
    )


def image(sop: str = "1.2.3.1.1", **attributes: AttributeValue | str) -> InstanceFacts:
    return facts(sop=sop, **{"Rows": 10, **attributes})  # type: ignore[arg-type]


def decided(*items: InstanceFacts, routes: list[Route]) -> Decision:
    return decide(routes, SPECS, items, PEERS)


def test_a_match_is_told_first_and_then_every_condition_with_its_value_and_place() -> None:
    item = image(BodyPartExamined="EXTREMITY", SeriesDescription="Knie re. a.p.")
    decision = decided(
        item,
        image("1.2.3.1.2", Modality="SR", sop_class=str(BasicTextSRStorage)),
        routes=[route("knees", modality=["CR", "DX"], body_part="knee", view="AP")],
    )
    assert (
        as_text(decision)
        == """\
knee_kl runs on 1 image; reports to pacs

route “knees”: matches
  1 image (DX; Digital X-Ray Image Storage - For Presentation): taken
    yes  modality   DX                  wanted CR or DX  Modality (0008,0060)
    yes  body_part  EXTREMITY (knee)    wanted knee      BodyPartExamined (0018,0015)
         made precise by “Knie re. a.p.” in SeriesDescription (0008,103E)
    yes  view       Knie re. a.p. (AP)  wanted AP        SeriesDescription (0008,103E)
  1 object left out: no image (Basic Text SR Storage)

pipeline knee_kl: what it takes of these images
  1 image (DX; Digital X-Ray Image Storage - For Presentation): taken
    yes  body_part  EXTREMITY (knee)    wanted knee           BodyPartExamined (0018,0015)
         made precise by “Knie re. a.p.” in SeriesDescription (0008,103E)
    yes  view       Knie re. a.p. (AP)  wanted AP or unknown  SeriesDescription (0008,103E)"""
    )


def test_a_study_that_nobody_wants_says_so_first_with_the_reason() -> None:
    decision = decided(image(), routes=[route("knees", body_part="knee")])
    assert (
        as_text(decision)
        == """\
no pipeline runs and nothing is sent
  “knees”: body part is not given, wanted knee

route “knees”: does not match
  1 image (DX; Digital X-Ray Image Storage - For Presentation): not taken
    no   body_part  not given  wanted knee
         neither Body Part Examined nor a code nor a description names a known region"""
    )


def test_a_rejected_job_says_that_a_report_is_sent_and_why() -> None:
    item = image(BodyPartExamined="KNEE", ViewPosition="LL")
    lines = as_text(decided(item, routes=[route("films", modality="DX")])).splitlines()
    assert lines[0] == "knee_kl does not evaluate the study; a report that says so goes to pacs"
    assert lines[1] == "  no image is suitable: view is LL, wanted AP or unknown"


def test_a_route_behind_a_stop_is_said_to_be_not_looked_at() -> None:
    text = as_text(
        decided(image(BodyPartExamined="KNEE"), routes=[route("one", stop=True), route("two")])
    )
    assert "route “two”: not looked at, “one” says stop" in text


def test_values_in_wide_letters_keep_the_columns_straight() -> None:
    item = image(Modality="DX", SeriesDescription="膝関節正面")
    lines = as_text(
        decided(item, routes=[route("knees", modality="DX", body_part="knee")])
    ).splitlines()
    modality = next(line for line in lines if " modality " in line)
    body_part = next(line for line in lines if " body_part " in line)
    wide = sum(ord(letter) > 0x3000 for letter in body_part)
    assert modality.index("wanted") == body_part.index("wanted") + wide


def test_a_rule_that_tells_every_slice_apart_does_not_fill_pages() -> None:
    slices = [image(f"1.2.3.1.{n}", InstanceNumber=n) for n in range(1, 501)]
    when = {"attributes": {"InstanceNumber": {"range": {"min": 499}}}}
    decision = decided(*slices, routes=[route("last", **when)])
    text = as_text(decision)
    assert len(text.splitlines()) < 40
    assert "494 images more, judged in 494 other ways: 0 taken" in text
    assert text.index("taken") < text.index("not taken")
    groups = as_json(decision)["routes"][0]["groups"]
    assert sum(len(group["images"]) for group in groups) == 500


def test_json_holds_every_verdict_and_is_plain() -> None:
    item = image(BodyPartExamined="KNEE", ViewPosition="LL")
    decision = decided(item, routes=[route("films", modality="DX")])
    data = json.loads(json.dumps(as_json(decision)))
    assert data["unrouted_reason"] is None
    (found,) = data["routes"]
    assert (found["route"], found["matched"], found["skipped_by"]) == ("films", True, None)
    assert found["groups"] == [
        {
            "images": ["1.2.3.1.1"],
            "matched": True,
            "excluded": None,
            "conditions": [
                {
                    "condition": "modality",
                    "wanted": "DX",
                    "seen": "DX",
                    "where": "Modality (0008,0060)",
                    "holds": True,
                    "note": "",
                }
            ],
        }
    ]
    (job,) = data["jobs"]
    assert job["pipeline"] == "knee_kl"
    assert job["not_evaluated"] == "no image is suitable: view is LL, wanted AP or unknown"
    assert job["not_evaluated_code"] == "wrong-view"
    assert job["send_to"] == ["pacs"]


@pytest.mark.parametrize(
    "keyword",
    ["Modality", "BodyPartExamined", "ViewPosition", "SeriesDescription", "ImageType", "KVP"],
)
def test_a_value_can_neither_steer_a_terminal_nor_break_a_line(keyword: str) -> None:
    item = image(**{keyword: "knee\x1b[31m\r\n\x07\ud800red"})
    when: dict[str, Any] = {"attributes": {"KVP": {"present": True}}, "image_type": "PRIMARY"}
    decision = decided(item, routes=[route("r", modality="DX", body_part="hip", view="AP", **when)])
    text = as_text(decision)
    assert all(letter.isprintable() for letter in text.replace("\n", ""))
    assert "red" in text.lower()
    assert text.encode("utf-8")
    assert (decision.unrouted_reason or "").isprintable()


# nothing of the patient

OF_THE_PATIENT = sorted(
    keyword
    for tag in DicomDictionary
    if (keyword := keyword_for_tag(tag))
    and (tag >> 16 in (0x0010, 0x0012, 0x0038) or dictionary_VR(tag) in ("PN", "DA", "DT"))
)
OTHERS = [
    "AccessionNumber", "StudyID", "StationName", "InstitutionName", "InstitutionAddress",
    "DeviceSerialNumber", "RequestedProcedureID", "ScheduledProcedureStepID", "ImageComments",
    "PerformedProcedureStepID", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime",
    "FillerOrderNumberImagingServiceRequest", "ReasonForStudy", "AdditionalPatientHistory",
    "PatientComments", "RequestingService", "DerivationDescription", "StudyComments",
]  # fmt: skip


@pytest.mark.parametrize("keyword", OTHERS)
def test_what_may_identify_the_patient_is_not_shown(keyword: str) -> None:
    assert not may_be_shown(keyword)


def test_no_element_of_the_patient_or_visit_and_no_name_or_date_may_be_shown() -> None:
    assert len(OF_THE_PATIENT) > 200
    assert [keyword for keyword in OF_THE_PATIENT if may_be_shown(keyword)] == []


def test_a_private_or_unknown_element_is_not_shown() -> None:
    assert not may_be_shown("NoSuchElement")


@pytest.mark.parametrize(
    "told",
    [
        {"BodyPartExamined": "KNEE", "ViewPosition": "LL"},
        {"BodyPartExamined": "OTHER"},
        {"SeriesDescription": "Knie re.", "StudyDescription": "Hip left"},
        {"Modality": "SR"},
        {"ManufacturerModelName": "dicom-node"},
        {"StudyDescription": "both knees"},
    ],
)
def test_no_explanation_shows_patient_data(told: dict[str, AttributeValue]) -> None:
    hidden = [*OF_THE_PATIENT, *OTHERS]
    patient = {keyword: f"{SECRET}{n}" for n, keyword in enumerate(hidden)}
    tests: dict[str, Any] = {}
    for n, keyword in enumerate(hidden):
        kinds: list[dict[str, Any]] = [{"present": True}, {"matches": "."}, {"range": {"min": 1}}]
        tests[keyword] = kinds[n % 3]
    item = image(sender="XRAY", **{**patient, **told})
    everything = {
        "modality": "DX",
        "body_part": "knee",
        "view": "AP",
        "laterality": "R",
        "sender": "xray",
        "contrast": False,
        "image_type": "ORIGINAL",
        "slice_thickness_mm": {"max": 3},
        "sop_class": "CT Image Storage",
    }
    routes = [
        route("all", **everything, attributes=tests),
        route("hidden", attributes=tests),
        route("films", modality="DX"),
        route("nobody", modality="XX"),
    ]
    for chosen in (routes, routes[:1], routes[1:2], routes[3:]):
        decision = decide(chosen, SPECS, [item], PEERS)
        told_text = as_text(decision) + json.dumps(as_json(decision), ensure_ascii=False)
        told_text += decision.unrouted_reason or ""
        told_text += "".join(job.reason for job in decision.jobs)
        assert SECRET.casefold() not in told_text.casefold()


def test_a_test_of_a_patients_element_is_told_without_its_value() -> None:
    when = {"attributes": {"PatientName": {"matches": "."}}}
    text = as_text(decided(image(PatientName=SECRET), routes=[route("named", **when)]))
    assert "(not shown: patient data)" in text
    assert "PatientName (0010,0010)" in text
    assert SECRET not in text
