"""What a study is found by: the words of its patient's name, its ids and its accession number."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

LONGEST: Final = 64
"""Letters of a word that are kept and compared."""
_BETWEEN: Final = re.compile(r"[\s^=\\,;]+")
_MODALITY_LETTERS: Final = 16


@dataclass(frozen=True, slots=True)
class Headline:
    """What a list shows of a study, from the header of its first image."""

    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    modality: str


def headline(attributes: Mapping[str, Any]) -> Headline:
    """Return a study's headline from an image's header values; what is not given is ""."""

    def text(keyword: str) -> str:
        value = attributes.get(keyword, "")
        return str(value[0] if isinstance(value, list) and value else value or "").strip()

    date = "".join(filter(str.isdigit, text("StudyDate")))
    return Headline(
        patient_id=text("PatientID"),
        patient_name=text("PatientName"),
        accession_number=text("AccessionNumber"),
        study_date=date if len(date) == len("20260131") else "",
        modality=text("Modality")[:_MODALITY_LETTERS],
    )


def words_of(line: Headline) -> set[tuple[str, bool]]:
    """Return the words that a study is found by, and whether each tells who the patient is."""
    found = {(word, True) for word in split(line.patient_name)}
    found |= {(word, True) for word in split(line.patient_id)}
    found |= {(word, False) for word in split(line.accession_number)}
    return found


def split(text: str) -> Iterator[str]:
    """Split what a header or a person gives into words, folded: "Müller^Ann" is muller, ann.

    Case, accents and the width of letters make no difference.
    """
    for part in _BETWEEN.split(text):
        plain = unicodedata.normalize("NFKD", part)
        letters = (x for x in plain if x.isprintable() and not unicodedata.combining(x))
        word = "".join(letters).casefold()
        if word:
            yield word[:LONGEST]
