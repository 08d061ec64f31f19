"""Whose images they are: whether two headers name the same patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

IDENTITY: Final = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
)
"""What a merge or a correction changes (Patient Module, PS3.3 C.7.1.1)."""


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keywords of `IDENTITY` in which two headers contradict each other.

    What one of them leaves empty contradicts nothing: many modalities send no birth date that
    the PACS adds. Neither do case, padding and empty components of a name (PS3.5 section 6.2.1).

    Args:
        before: Plain values by keyword, as `model.instances.attributes_of` gives them.
        after: The same of the other header.
    """
    return [
        keyword
        for keyword in IDENTITY
        if (old := _plain(keyword, before)) and (new := _plain(keyword, after)) and old != new
    ]


def _plain(keyword: str, attributes: Mapping[str, Any]) -> str:
    text = str(attributes.get(keyword) or "")
    if keyword == "PatientName":
        # the alphabetic group; a sender may leave out the ideographic and phonetic ones
        alphabetic = text.partition("=")[0] or text
        parts = [" ".join(part.split()) for part in alphabetic.casefold().split("^")]
        return "^".join(parts).rstrip("^")
    return text.strip().upper() if keyword == "PatientSex" else text.strip()
