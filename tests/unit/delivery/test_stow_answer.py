"""What a DICOMweb server's reply means for each object."""

from __future__ import annotations

import json
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.delivery import Outgoing, Verdict
from dicom_node.delivery.stow_answer import Reply, read_reply
from tests.factories import radiograph


@pytest.fixture
def item(tmp_path: Path) -> tuple[Outgoing, str]:
    dataset = radiograph()
    file = tmp_path / "1.dcm"
    dataset.save_as(file, enforce_file_format=True)
    return Outgoing(1, file, str(dataset.SOPClassUID)), str(dataset.SOPInstanceUID)


def headers(kind: str = "application/dicom+json", **more: str) -> Message:
    message = Message()
    message["Content-Type"] = kind
    for name, value in more.items():
        message[name] = value
    return message


def entry(uid: str, tag: str = "", code: int = 0) -> dict[str, object]:
    told: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}}
    if tag:
        told[tag] = {"vr": "US", "Value": [code]}
    return told


def reply(
    status: int, *, stored: list[object] | None = None, failed: list[object] | None = None
) -> Reply:
    body: dict[str, object] = {"00081190": {"vr": "UR", "Value": ["http://x/studies/1"]}}
    if stored is not None:
        body["00081199"] = {"vr": "SQ", "Value": stored}
    if failed is not None:
        body["00081198"] = {"vr": "SQ", "Value": failed}
    return read_reply(status, headers(), json.dumps(body).encode())


def test_a_stored_object_is_sent_and_its_warning_kept(item: tuple[Outgoing, str]) -> None:
    outgoing, uid = item
    plain = reply(200, stored=[entry(uid)]).answer_for(outgoing)
    assert (plain.verdict, plain.text) == (Verdict.SENT, "HTTP 200")
    warned = reply(202, stored=[entry(uid, "00081196", 0xB000)]).answer_for(outgoing)
    assert (warned.verdict, warned.text) == (Verdict.SENT, "HTTP 202, warning 0xB000")


@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        (409, 0xA700, Verdict.TRY_AGAIN),
        (409, 0x0110, Verdict.TRY_AGAIN),
        (409, 0xC000, Verdict.TRY_AGAIN),
        (409, 0x0122, Verdict.TRY_AGAIN),
        (202, 0xA900, Verdict.NEVER),
        (202, 0xB000, Verdict.TRY_AGAIN),
        (409, 0x0111, Verdict.SENT),
        (200, 0, Verdict.TRY_AGAIN),
    ],
)
def test_a_failed_object_is_not_sent_unless_it_is_there_already_whatever_the_http_status(
    item: tuple[Outgoing, str], status: int, reason: int, verdict: Verdict
) -> None:
    outgoing, uid = item
    answer = reply(status, failed=[entry(uid, "00081197", reason)]).answer_for(outgoing)
    assert answer.verdict is verdict
    assert f"0x{reason:04X}" in answer.text


def test_an_object_that_the_reply_does_not_name_is_not_sent(item: tuple[Outgoing, str]) -> None:
    answer = reply(202, stored=[entry("1.2.3")]).answer_for(item[0])
    assert answer.verdict is Verdict.TRY_AGAIN
    assert reply(200, stored=[entry("1.2.3")]).answer_for(item[0]).verdict is Verdict.TRY_AGAIN


def test_200_without_a_list_means_all_of_them(item: tuple[Outgoing, str]) -> None:
    answer = read_reply(200, headers("text/plain"), b"").answer_for(item[0])
    assert answer.verdict is Verdict.SENT


@pytest.mark.parametrize(
    ("status", "verdict", "told"),
    [
        (301, Verdict.TRY_AGAIN, "https://new/dicom-web"),
        (400, Verdict.TRY_AGAIN, "understand"),
        (401, Verdict.TRY_AGAIN, "password"),
        (403, Verdict.TRY_AGAIN, "rights"),
        (404, Verdict.TRY_AGAIN, "no STOW-RS service"),
        (409, Verdict.TRY_AGAIN, "none of the objects"),
        (413, Verdict.NEVER, "too large"),
        (415, Verdict.NEVER, "this kind"),
        (503, Verdict.TRY_AGAIN, "busy"),
        (418, Verdict.TRY_AGAIN, "HTTP 418"),
    ],
)
def test_a_refused_request_says_why(
    item: tuple[Outgoing, str], status: int, verdict: Verdict, told: str
) -> None:
    found = read_reply(status, headers("text/html", Location="https://new/dicom-web"), b"<html>")
    answer = found.answer_for(item[0])
    assert answer.verdict is verdict
    assert told in answer.text


XML = """<?xml version="1.0" encoding="UTF-8"?>
<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
 <DicomAttribute keyword="FailedSOPSequence" tag="00081198" vr="SQ"><Item number="1">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">FAILED</Value></DicomAttribute>
  <DicomAttribute tag="00081197" vr="US"><Value number="1">42752</Value></DicomAttribute>
 </Item></DicomAttribute>
 <DicomAttribute keyword="ReferencedSOPSequence" tag="00081199" vr="SQ"><Item number="1">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">STORED</Value></DicomAttribute>
 </Item></DicomAttribute>
</NativeDicomModel>"""


def test_a_server_that_answers_in_xml_is_understood() -> None:
    found = read_reply(202, headers("application/dicom+xml"), XML.encode())
    assert (found.stored, found.failed) == ({"STORED": 0}, {"FAILED": 0xA700})


def test_xml_with_a_document_type_is_passed_over() -> None:
    bomb = XML.replace("<Native", "<!DOCTYPE a [<!ENTITY b 'c'>]><Native", 1)
    found = read_reply(202, headers("application/dicom+xml"), bomb.encode())
    assert (found.stored, found.failed) == ({}, {})


@given(st.binary(max_size=200), st.sampled_from(["application/dicom+json", "text/xml", "x"]))
def test_no_body_whatsoever_raises(body: bytes, kind: str) -> None:
    read_reply(409, headers(kind), body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["00081199", "00081198", "00081155", "00081197", "Value"]), inner
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_no_json_whatsoever_raises_or_counts_as_stored_by_accident(value: object) -> None:
    found = read_reply(202, headers(), json.dumps(value).encode())
    assert all(isinstance(uid, str) for uid in (*found.stored, *found.failed))
