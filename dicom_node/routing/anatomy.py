"""What part of the body an image shows, by whatever name its sender gives it.

Order of trust: Body Part Examined, Anatomic Region Sequence, Primary Anatomic Structure Sequence,
then the descriptions in the order of `sources.DESCRIPTIONS`. The first attribute that names a
region of the vocabulary decides; a later one can only make it more precise (EXTREMITY, then
"knee") or be reported as a contradiction. A Body Part Examined that is empty or says nothing
("OTHER") decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.model.text import codes_of, texts_of
from dicom_node.routing.sources import DESCRIPTIONS, described, shortened, where
from dicom_node.routing.vocabulary import Regions, vocabulary

_CODED: Final = ("AnatomicRegionSequence", "PrimaryAnatomicStructureSequence")

READS: Final = (
    "BodyPartExamined",
    *_CODED,
    *(source.keyword for source in DESCRIPTIONS),
)
"""Keywords of the attributes that `anatomy_of` looks at."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What an image shows.

    Attributes:
        regions: Names of the vocabulary with those that hold them; empty when nothing tells.
        named: The regions as named, without those that hold them.
        seen: The text or code that told; without regions, what Body Part Examined says.
        where: The attribute that it stood in, with its tag.
        why: What made it more precise, and what contradicts it.
    """

    regions: Regions
    named: Regions
    seen: str = ""
    where: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Statement:
    regions: Regions
    seen: str
    where: str
    of_study: bool = False
    note: str = ""


def anatomy_of(attributes: Mapping[str, Any]) -> Anatomy:
    """Find what an image shows; see the module for the order of trust."""
    words = vocabulary()
    statements = list(_statements(attributes))
    if not statements:
        return _nothing(attributes)
    first, rest = statements[0], statements[1:]
    named, notes = first.regions, [first.note] if first.note else []
    precise = next((s for s in rest if _makes_precise(s, named)), None)
    if precise is not None:
        named |= precise.regions
        notes.append(f"made precise by “{precise.seen}” in {precise.where}")
    others = [s for s in rest if not words.agree(s.regions, named)]
    if others:
        told = "; ".join(f"“{s.seen}” in {s.where}" for s in others)
        notes.append(f"contradicted by {told}, which is trusted less")
    elif first.of_study and len(first.regions) > 1:
        notes.append("the whole study's description; this image may show only one of them")
    return Anatomy(words.widened(named), named, first.seen, first.where, "; ".join(notes))


def _makes_precise(statement: _Statement, named: Regions) -> bool:
    """Tell whether a statement names a part of what is named already.

    A study's description that names several regions does not tell which one this image shows.
    """
    return (
        not statement.regions <= named
        and not (statement.of_study and len(statement.regions) > 1)
        and vocabulary().refines(statement.regions, named)
    )


def _nothing(attributes: Mapping[str, Any]) -> Anatomy:
    parts = texts_of(attributes.get("BodyPartExamined"))
    if not parts:
        why = "neither Body Part Examined nor a code nor a description names a known region"
        return Anatomy(frozenset(), frozenset(), why=why)
    known = vocabulary().is_generic(parts[0])
    why = "it names no region" if known else "the vocabulary does not know it"
    place = where("BodyPartExamined")
    return Anatomy(
        frozenset(),
        frozenset(),
        shortened(parts[0]),
        place,
        f"{why}, and no code or description names a known region",
    )


def _statements(attributes: Mapping[str, Any]) -> Iterator[_Statement]:
    words = vocabulary()
    for text in texts_of(attributes.get("BodyPartExamined")):
        reading = words.of_body_part(text)
        if reading.regions:
            note = f"taken for a misspelt “{reading.misspelt}”" if reading.misspelt else ""
            place = where("BodyPartExamined")
            yield _Statement(reading.regions, shortened(text), place, note=note)
    for keyword in _CODED:
        for scheme, value, meaning in codes_of(attributes.get(keyword)):
            regions = words.of_code(scheme, value) or words.in_text(meaning)
            if regions:
                seen = shortened(f"({value}, {scheme}, {meaning})")
                yield _Statement(regions, seen, where(keyword))
    for source, text in described(attributes):
        if regions := words.in_text(text):
            place = where(source.keyword)
            yield _Statement(regions, shortened(text), place, source.of_study)
