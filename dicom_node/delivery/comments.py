"""What a peer says about an object, without the patient that it may quote."""

from __future__ import annotations

import re
from typing import Final

from pydicom.dataset import Dataset

_TELLING: Final = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
_SHORTEST: Final = 3
"""A shorter part of a name or an id is as likely a word of the comment's own."""


def without_patient(comment: str, sent: Dataset) -> str:
    """Return a peer's comment on an object, each word of the object's patient replaced by "…".

    An Error Comment (0000,0902) is free text, and logs and the audit trail hold it; some peers
    name the patient that they do not know or that does not fit.
    """
    words = {
        part
        for keyword in _TELLING
        for part in re.split(r"[\^=\\\s,]+", str(sent.get(keyword) or ""))
        if len(part) >= _SHORTEST
    }
    for word in sorted(words, key=len, reverse=True):
        # a name is a word of its own ("does" names no Doe); an id may stand in anything
        edge = r"\b" if word.isalpha() else ""
        comment = re.sub(f"{edge}{re.escape(word)}{edge}", "…", comment, flags=re.IGNORECASE)
        # a comment has at most 64 characters, and its last word may be cut off
        comment = re.sub(_begun(word), "…", comment, flags=re.IGNORECASE)
    return comment


def _begun(word: str) -> str:
    """Return a pattern of the word's beginning at the end of a text."""
    beginnings = (re.escape(word[:length]) for length in range(len(word) - 1, _SHORTEST - 1, -1))
    return rf"\b(?:{'|'.join(beginnings)})$" if len(word) > _SHORTEST else r"(?!)"
