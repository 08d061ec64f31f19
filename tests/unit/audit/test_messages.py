"""Every event that is told is a valid audit message, and says who did what to which study."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dicom_node
from dicom_node.audit import MAPPED, Identity, message_of
from dicom_node.store.chain import Link
from tests.unit.audit.schema import checked

US = Identity("AINODE", "Hospital", "AINODE", "node.example", {"pacs": ("PACS", "10.0.0.5")})
LINK = Link(7, "ab" * 32)
UID = "1.2.826.0.1.3680043.8.498.1"


def event(kind: str, **told: Any) -> SimpleNamespace:
    at = datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC)
    data = {key: told.pop(key) for key in list(told) if key not in ("peer", "study_uid")}
    fields = {"study_uid": None, "job_id": None, "peer": None, **told}
    return SimpleNamespace(id=42, at=at, kind=kind, data=data, **fields)


def message(kind: str, **told: Any) -> Any:
    text = message_of(event(kind, **told), US, LINK)
    assert text is not None
    return checked(text)


def codes(root: Any, path: str) -> list[tuple[str, str]]:
    return [(item.get("csd-code"), item.get("codeSystemName")) for item in root.iterfind(path)]


@pytest.mark.parametrize("kind", sorted(MAPPED))
def test_every_kind_that_is_told_makes_a_valid_message(kind: str) -> None:
    root = message(kind, study_uid=UID, peer="pacs", by="jane", role="worker", address="10.0.0.9")
    assert codes(root, "EventIdentification/EventID") == [(MAPPED[kind].event.value, "DCM")]
    assert (kind, "99DCMNODE") in codes(root, "EventIdentification/EventTypeCode")
    assert root.find("AuditSourceIdentification").get("AuditSourceID") == "AINODE"


@pytest.mark.parametrize(
    ("kind", "who"),
    [
        ("instances_received", "PACS"),
        ("study_asked_for", "AINODE"),
        ("study_pulled", "AINODE"),
        ("study_not_pulled", "AINODE"),
        ("report_sent", "AINODE"),
    ],
)
def test_who_asked_for_a_transfer_is_its_requestor(kind: str, who: str) -> None:
    root = message(kind, study_uid=UID, peer="pacs")
    requestors = root.findall("ActiveParticipant[@UserIsRequestor='true']")
    assert [item.get("UserID") for item in requestors] == [who]


def test_images_that_came_name_both_sides_and_the_study() -> None:
    root = message("instances_received", study_uid=UID, peer="XRAY", number=3)
    event_id = root.find("EventIdentification")
    assert event_id.get("EventActionCode") == "C"
    assert event_id.get("EventOutcomeIndicator") == "0"
    assert event_id.get("EventDateTime") == "2026-03-01T08:30:00.123Z"
    source, destination = root.iterfind("ActiveParticipant")
    assert (source.get("UserID"), destination.get("UserID")) == ("XRAY", "AINODE")
    assert codes(source, "RoleIDCode") == [("110153", "DCM")]
    assert codes(destination, "RoleIDCode") == [("110152", "DCM")]
    study, place = root.iterfind("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == UID
    assert codes(study, "ParticipantObjectIDTypeCode") == [("110180", "DCM")]
    assert study.find("ParticipantObjectDescription/SOPClass").get("NumberOfInstances") == "3"
    details = {
        item.get("type"): base64.b64decode(item.get("value")).decode()
        for item in place.iterfind("ParticipantObjectDetail")
    }
    assert details == {"position": "7", "sha256": LINK.digest}


def test_a_report_goes_to_the_peer_s_ae_title_and_host() -> None:
    root = message("report_sent", study_uid=UID, peer="pacs", answer="stored for DOE^JANE")
    source, destination = root.iterfind("ActiveParticipant")
    assert (source.get("UserID"), source.get("UserIsRequestor")) == ("AINODE", "true")
    assert (destination.get("UserID"), destination.get("NetworkAccessPointID")) == (
        "PACS",
        "10.0.0.5",
    )
    assert destination.get("NetworkAccessPointTypeCode") == "2"


def test_what_people_and_peers_wrote_is_left_out() -> None:
    for kind, told in (
        ("report_failed", {"answer": "no such patient DOE^JANE"}),
        ("study_released", {"by": "jane", "why": "it is DOE^JANE", "reason": "DOE^JANE"}),
        ("job_failed", {"why": "cannot read DOE^JANE"}),
    ):
        text = message_of(event(kind, study_uid=UID, peer="pacs", **told), US, LINK)
        assert text is not None
        assert "DOE" not in text


def test_a_caller_that_was_rejected_is_a_failed_node_authentication() -> None:
    root = message(
        "association_rejected",
        peer="EVIL",
        called_ae="AINODE",
        address="10.9.9.9",
        reason="its title is none of `accept_from` (add it)",
    )
    assert root.find("EventIdentification").get("EventOutcomeIndicator") == "4"
    assert ("110126", "DCM") in codes(root, "EventIdentification/EventTypeCode")
    caller = root.find("ActiveParticipant")
    assert (caller.get("UserID"), caller.get("NetworkAccessPointID")) == ("EVIL", "10.9.9.9")
    assert "accept_from" in root.findtext("EventIdentification/EventOutcomeDescription")


def test_a_login_is_told_by_account_and_address() -> None:
    root = message("login_failed", user="jane", address="10.0.0.9")
    assert root.find("EventIdentification").get("EventOutcomeIndicator") == "4"
    assert codes(root, "EventIdentification/EventTypeCode")[0] == ("110122", "DCM")
    assert root.find("ActiveParticipant").get("UserID") == "jane"


def test_each_study_whose_patient_was_shown_is_named() -> None:
    root = message("patients_shown", by="jane", studies=["1.2.3", "1.2.4"])
    named = [
        item.get("ParticipantObjectID") for item in root.iterfind("ParticipantObjectIdentification")
    ]
    assert named == ["1.2.3", "1.2.4", "audit_events/42"]


def test_our_own_steps_are_not_told() -> None:
    assert message_of(event("study_settled", study_uid=UID), US, LINK) is None


@given(st.text(max_size=20), st.text(max_size=40), st.text(max_size=20), st.integers() | st.none())
def test_whatever_a_caller_sends_the_message_is_valid(
    title: str, address: str, called: str, studies: int | None
) -> None:
    root = message(
        "association_rejected",
        peer=title,
        address=address,
        called_ae=called,
        reason=title,
        studies=studies,
    )
    assert len(root.findall("ActiveParticipant")) == 2


def test_every_kind_that_is_told_is_recorded_somewhere() -> None:
    package = Path(dicom_node.__file__).parent
    others = [file for file in package.rglob("*.py") if file.parent.name != "audit"]
    source = "\n".join(file.read_text(encoding="utf-8") for file in others)
    made_up = {"images_purged", "reports_purged", "records_purged"}
    assert [kind for kind in MAPPED if f'"{kind}"' not in source and kind not in made_up] == []
    assert 'f"{kind}_purged"' in source
