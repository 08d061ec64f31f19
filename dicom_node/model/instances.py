"""What the node knows of an instance without its pixels: the facts that routing decides on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import dictionary_VR
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


_MODIFIERS: Final = {
    "AnatomicRegionSequence": "AnatomicRegionModifierSequence",
    "PrimaryAnatomicStructureSequence": "PrimaryAnatomicStructureModifierSequence",
    "ViewCodeSequence": "ViewModifierCodeSequence",
}
"""Which sequence stands in the items of which."""


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
    left out. The modifiers of a region, a structure and a view, which stand inside of these
    (PS3.3 10.5), become lists of their own. What an enhanced image says of all its frames in its
    functional groups (PS3.3 C.7.6.16) counts as said at the top. An element that cannot be
    decoded is left out: a bad private habit of one sender must not cost the study its routing.
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
    for outer, inner in _MODIFIERS.items():
        if outer in found and inner not in found and (codes := _inner_codes(dataset, outer, inner)):
            found[inner] = codes
    return _of_all_frames(dataset) | found


def _of_all_frames(dataset: Dataset) -> dict[str, AttributeValue]:
    """Return what the functional groups say that holds for every frame."""
    found: dict[str, AttributeValue] = {}
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        try:
            groups = [_of_group(group) for group in dataset.get(keyword) or ()]
        except _UNDECODABLE:
            continue
        for name, value in groups[0].items() if groups else ():
            if all(other.get(name) == value for other in groups):
                found[name] = value
    return found


def _of_group(group: Dataset) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {}
    for element in group:
        if element.VR == "SQ" and element.value:
            # a macro; an attribute stands in only one of them
            found |= attributes_of(element.value[0])
    return found


def is_binary(tag: int) -> bool:
    """Tell whether an element's value is binary whatever its image: `attributes_of` has none."""
    return _UNWANTED_VR.issuperset(dictionary_VR(tag).split(" or "))


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
        # neither JSON nor PostgreSQL has a NaN, and nothing can be decided by one
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return None
    text = str(value).strip(" \0")
    return text if len(text) <= _MAX_TEXT else None


def _inner_codes(dataset: Dataset, outer: str, inner: str) -> list[dict[str, str]]:
    try:
        found = [_codes(item.get(inner)) or [] for item in dataset[outer].value]
    except _UNDECODABLE:
        return []
    return [code for codes in found for code in codes]


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
