"""What a DICOMweb server answers to STOW-RS, object by object (PS3.18 section 10.5.3)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Final
from xml.etree import ElementTree

from pydicom.filereader import read_file_meta_info

from dicom_node.delivery.answers import (
    DUPLICATE,
    Answer,
    Outgoing,
    Verdict,
    status_text,
    verdict_of,
)
from dicom_node.model.unreadable import UNREADABLE

_REFERENCED: Final = "00081199"
_FAILED: Final = "00081198"
_INSTANCE: Final = "00081155"
_WARNING: Final = "00081196"
_FAILURE: Final = "00081197"

_MEANINGS: Final = {
    400: "it does not understand the request",
    401: "it does not accept our token or password (see `auth`)",
    403: "we may not store there (see the account's rights on the server)",
    404: "there is no STOW-RS service at this `url`",
    405: "there is no STOW-RS service at this `url`",
    409: "it stored none of the objects",
    413: "the object is too large for it",
    415: "it does not take this kind of object",
    429: "it has too much to do",
    503: "it is busy or being maintained",
}
_NEVER: Final = frozenset({413, 415})
_ABOUT_ONE: Final = frozenset({400, 409, 413, 415, 500})


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply: its HTTP status, and what it says of single objects.

    Attributes:
        stored: SOP Instance UIDs that it has, with Warning Reason or 0.
        failed: SOP Instance UIDs that it has not, with Failure Reason.
    """

    status: int
    location: str = ""
    stored: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_about_one_of_several(self) -> bool:
        """It refuses a request as a whole, where perhaps one object is the reason."""
        return self.status in _ABOUT_ONE and not self.stored and not self.failed

    def refusal(self) -> str:
        """Say a status that is no success in words."""
        if 300 <= self.status < 400:
            return f"HTTP {self.status}: the service is elsewhere; correct the `url`{self.location}"
        words = _MEANINGS.get(self.status)
        return f"HTTP {self.status}: {words}" if words else f"HTTP {self.status}"

    def answer_for(self, item: Outgoing) -> Answer:
        """Return what the reply means for an object that was in the request."""
        try:
            uid = str(read_file_meta_info(item.file).MediaStorageSOPInstanceUID)
        except UNREADABLE:
            uid = ""
        if uid in self.failed:
            reason = self.failed[uid]
            text = f"HTTP {self.status}, {status_text(reason)}"
            verdict = verdict_of(reason)
            if verdict is Verdict.SENT and reason != DUPLICATE:
                # a failure is none because its reason is that of a warning
                verdict = Verdict.TRY_AGAIN
            return Answer(item.id, verdict, text)
        if uid in self.stored:
            warning = self.stored[uid]
            told = f", warning 0x{warning:04X}" if warning else ""
            return Answer(item.id, Verdict.SENT, f"HTTP {self.status}{told}")
        if self.status == 200 and not self.stored and not self.failed:
            # 200 says "all of them" (PS3.18 Table 10.5.3-1), with or without a list
            return Answer(item.id, Verdict.SENT, "HTTP 200, without a list of objects")
        if 200 <= self.status < 300:
            text = f"HTTP {self.status}: the reply does not name this object"
            return Answer(item.id, Verdict.TRY_AGAIN, text)
        verdict = Verdict.NEVER if self.status in _NEVER else Verdict.TRY_AGAIN
        return Answer(item.id, verdict, self.refusal())


def read_reply(status: int, headers: Message, body: bytes) -> Reply:
    """Read a reply; a body that is no list of objects is passed over."""
    location = str(headers.get("Location") or "")
    if headers.get_content_type().endswith("xml"):
        stored, failed = _from_xml(body)
    else:
        stored, failed = _from_json(body)
    return Reply(status, f" (it names {location})" if location else "", stored, failed)


_Lists = tuple[dict[str, int], dict[str, int]]


def _from_json(body: bytes) -> _Lists:
    """Read the DICOM JSON model (PS3.18 annex F)."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}, {}
    datasets = found if isinstance(found, list) else [found]
    stored: dict[str, int] = {}
    failed: dict[str, int] = {}
    for dataset in datasets:
        stored |= dict(_items(dataset, _REFERENCED, _WARNING))
        failed |= dict(_items(dataset, _FAILED, _FAILURE))
    return stored, failed


def _items(dataset: Any, sequence: str, reason: str) -> Iterable[tuple[str, int]]:
    for item in _values(dataset, sequence):
        for uid in _values(item, _INSTANCE):
            codes = [code for code in _values(item, reason) if isinstance(code, int)]
            yield str(uid), codes[0] if codes else 0


def _values(dataset: Any, tag: str) -> list[Any]:
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _from_xml(body: bytes) -> _Lists:
    """Read the native DICOM model (PS3.19 annex A), which older servers answer with."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        return {}, {}  # no DICOM model has one, and an entity may grow without end
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return {}, {}
    found: dict[str, dict[str, int]] = {_REFERENCED: {}, _FAILED: {}}
    for attribute in root.iter():
        sequence = attribute.get("tag", "")
        if sequence in found:
            reason = _WARNING if sequence == _REFERENCED else _FAILURE
            for item in attribute:
                uid, code = _xml_value(item, _INSTANCE), _xml_value(item, reason)
                if uid:
                    found[sequence][uid] = int(code) if code.isdecimal() else 0
    return found[_REFERENCED], found[_FAILED]


def _xml_value(item: ElementTree.Element, tag: str) -> str:
    for attribute in item:
        if attribute.get("tag") == tag:
            for value in attribute:
                return (value.text or "").strip()
    return ""
