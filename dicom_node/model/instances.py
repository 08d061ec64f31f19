"""What the node knows of an instance without its pixels: the facts that routing decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

AttributeValue = str | int | float | list[Any]
"""Plain JSON: text, number, list of these, or a list of codes {value, scheme, meaning}."""

_MAX_TEXT: Final = 1024
_UNDECODABLE: Final = (
    ValueError,
    TypeError,
    NotImplementedError,
    AttributeError,
    KeyError,
    OverflowError,
)
_UNWANTED_VR: Final = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN", "AT"})


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One instance as indexed.

    Attributes:
        sender: Calling AE title that sent it; "" when it was not received by C-STORE.
        attributes: Element keyword to plain value (see `attributes_of`).
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    sender: str
    attributes: Mapping[str, AttributeValue]


def attributes_of(dataset: Dataset) -> dict[str, AttributeValue]:
    """Flatten a data set's header to plain values by keyword.

    Top-level elements with a keyword are kept, but for binary values and over-long texts.
    A sequence of codes becomes a list of {"value", "scheme", "meaning"}; other sequences are
    left out. An element that cannot be decoded is left out: a bad private habit of one sender
    must not cost the study its routing.
    """
    found: dict[str, AttributeValue] = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset decodes every element
        try:
            element = dataset[tag]
            keyword = element.keyword
            if not keyword or element.VR in _UNWANTED_VR:
                continue
            value = _codes(element.value) if element.VR == "SQ" else _plain(element.value)
        except _UNDECODABLE:
            continue
        if value is not None and value not in ("", []):
            found[keyword] = value
    return found


def facts_of(dataset: Dataset, transfer_syntax_uid: str, sender: str = "") -> InstanceFacts:
    """Collect the facts of one instance from its header."""
    return InstanceFacts(
        sop_instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        sop_class_uid=str(dataset.get("SOPClassUID") or ""),
        series_instance_uid=str(dataset.get("SeriesInstanceUID") or ""),
        study_instance_uid=str(dataset.get("StudyInstanceUID") or ""),
        transfer_syntax_uid=transfer_syntax_uid,
        sender=sender,
        attributes=attributes_of(dataset),
    )


def _plain(value: Any) -> AttributeValue | None:
    if value is None:
        return None
    if isinstance(value, MultiValue | list | tuple):
        return [item for item in map(_plain, value) if item not in (None, "")]
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return None
    text = str(value).strip(" \0")
    return text if len(text) <= _MAX_TEXT else None


def _codes(items: Any) -> list[dict[str, str]] | None:
    codes = [
        {
            "value": str(item.get("CodeValue") or item.get("LongCodeValue") or ""),
            "scheme": str(item.get("CodingSchemeDesignator") or ""),
            "meaning": str(item.get("CodeMeaning") or ""),
        }
        for item in items or []
        if "CodeValue" in item or "LongCodeValue" in item
    ]
    return codes or None
