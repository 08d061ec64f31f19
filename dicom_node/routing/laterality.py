"""Which side of the body an image shows: as stated, never guessed.

Order of trust: Image Laterality, Frame Laterality, Laterality, the side among the modifiers of
Anatomic Region or Primary Anatomic Structure, then words ("Knie re.", "KNEE-RT.", "左膝") in Body
Part Examined, the code's meaning and the descriptions. Words count only when they name one side;
abbreviations only next to a paired body part. View codes ("left lateral") tell where the beam
comes from, not the side of the body, and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import yaml

from dicom_node.model.findings import Side
from dicom_node.model.side import SIDE_CODES, SIDE_MODIFIERS
from dicom_node.model.text import codes_of, is_eastern, texts_of, words_of
from dicom_node.routing.phrases import Hit, Phrases
from dicom_node.routing.sources import DESCRIPTIONS, described, shortened, where
from dicom_node.routing.vocabulary import Named, vocabulary

_CODE_STRINGS: Final = ("ImageLaterality", "FrameLaterality", "Laterality")
_REGIONS: Final = ("AnatomicRegionSequence", "PrimaryAnatomicStructureSequence")
_TEXTS: Final = tuple(source for source in DESCRIPTIONS if source.keyword != "ViewCodeSequence")
READS: Final = (
    *_CODE_STRINGS,
    *SIDE_MODIFIERS,
    *_REGIONS,
    "BodyPartExamined",
    *(source.keyword for source in _TEXTS),
)
"""Keywords of the attributes that `laterality_of` looks at."""

_BOTH: Final = frozenset({Side.RIGHT, Side.LEFT})
_STATED: Final[Mapping[str, frozenset[Side]]] = {
    "R": frozenset({Side.RIGHT}),
    "L": frozenset({Side.LEFT}),
    "B": _BOTH,
    "U": frozenset({Side.NONE}),
}
"""Image Laterality (0020,0062): U is an unpaired body part, B both sides (PS3.3 C.8.11.7)."""
_BETWEEN: Final = frozenset(
    {"ap", "pa", "lat", "lateral", "seitlich", "joint", "gelenk", "xr", "view", "views", "axial"}
)
"""Words that may stand between a body part and the abbreviation of its side."""


@dataclass(frozen=True, slots=True)
class Laterality:
    """The side of an image.

    Attributes:
        sides: One side; both for an image of both; NONE alone for an unpaired body part; empty
            when nothing tells.
        seen: The value that told, as sent.
        where: The attribute that it stood in, with its tag.
        why: What else the reader should know.
    """

    sides: frozenset[Side]
    seen: str = ""
    where: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Word:
    side: str
    sure: bool
    languages: frozenset[str] = frozenset()


class _Words:
    def __init__(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        self.sure: Phrases[str] = Phrases()
        self.beside: dict[str, list[_Word]] = {}
        for side, entry in data.items():
            for text in entry["sure"]:
                self.sure.add(text, side)
            for group in entry.get("beside", ()):
                languages = frozenset(group.get("languages", ()))
                for text in group["words"]:
                    for word in words_of(text):
                        self.beside.setdefault(word, []).append(_Word(side, False, languages))


@lru_cache(maxsize=1)
def _words() -> _Words:
    text = files("dicom_node.routing").joinpath("sides.yaml").read_text(encoding="utf-8")
    return _Words(yaml.safe_load(text))


def laterality_of(attributes: Mapping[str, Any]) -> Laterality:
    """Return the side that an image states; empty when none or when a text names both."""
    said = list(_said(attributes))
    if not said:
        return Laterality(frozenset(), why="no attribute names a side")
    first = said[0]
    others = [s for s in said[1:] if s.sides and first.sides and s.sides.isdisjoint(first.sides)]
    others = [] if first.sides == {Side.NONE} else others
    if not others:
        return first
    told = "; ".join(f"“{other.seen}” in {other.where}" for other in others)
    why = f"contradicted by {told}, which is trusted less"
    return Laterality(first.sides, first.seen, first.where, why)


@lru_cache(maxsize=4096)
def sides_in(text: str) -> frozenset[Side]:
    """Return the sides that a text names for a paired body part; both for "both knees"."""
    words = words_of(text)
    parts = vocabulary().hits(text)
    if parts and not any(vocabulary().is_paired(part.meaning.regions) for part in parts):
        return frozenset()
    found = {hit.meaning for hit in _words().sure.find(text) if not _is_inside(hit, parts, words)}
    for at, word in enumerate(words):
        if any(part.start <= at < part.end for part in parts):
            found |= _glued(word, parts, at)
            continue
        for side in _words().beside.get(word, ()):
            if any(_belongs(side, at, part, words) for part in parts):
                found.add(side.side)
    if "B" in found:
        return _BOTH
    return frozenset(Side(side) for side in found)


def _said(attributes: Mapping[str, Any]) -> Iterator[Laterality]:
    for keyword in _CODE_STRINGS:
        stated = list(_stated(attributes, keyword))
        if len({said.sides for said in stated}) > 1:
            seen = ", ".join(said.seen for said in stated)
            yield Laterality(frozenset(), seen, where(keyword), "its values contradict each other")
        else:
            yield from stated
    for keyword in SIDE_MODIFIERS:
        for _, value, meaning in codes_of(attributes.get(keyword)):
            side = SIDE_CODES.get(value)
            if side is not None:
                yield Laterality(_STATED[side], f"({value}, {meaning})", where(keyword))
    texts = [
        (keyword, meaning)
        for keyword in _REGIONS
        for _, _, meaning in codes_of(attributes.get(keyword))
    ]
    texts += [("BodyPartExamined", text) for text in texts_of(attributes.get("BodyPartExamined"))]
    texts += [(source.keyword, text) for source, text in described(attributes, _TEXTS)]
    for keyword, text in texts:
        sides = sides_in(text)
        if len(sides) == 1:
            yield Laterality(sides, shortened(text), where(keyword))
        elif sides:
            why = "it names both sides, and this image may show either"
            yield Laterality(frozenset(), shortened(text), where(keyword), why)


def _stated(attributes: Mapping[str, Any], keyword: str) -> Iterator[Laterality]:
    for text in texts_of(attributes.get(keyword)):
        sides = _STATED.get(text.upper()[:1]) if len(text) == 1 else sides_in(text)
        if sides:
            yield Laterality(sides, shortened(text), where(keyword))


def _is_inside(hit: Hit[str], parts: Sequence[Hit[Named]], words: Sequence[str]) -> bool:
    """Tell whether the words were used up by a body part's name ("L spine")."""
    if is_eastern(words[hit.start]):
        return False
    return any(
        part.start < hit.end and hit.start < part.end for part in parts if part.end > 0
    ) and (hit.end - hit.start == 1)


def _glued(word: str, parts: Sequence[Hit[Named]], at: int) -> set[str]:
    """Return the side written onto a body part: "LTKNEE", "KNEERT"."""
    for part in parts:
        if part.start <= at < part.end and part.end - part.start == 1 and part.phrase != word:
            front, _, back = word.partition(part.phrase)
            glued = {side.side for affix in (front, back) for side in _affix(affix)}
            if glued:
                return glued
    return set()


def _affix(affix: str) -> list[_Word]:
    known = {"left": "L", "right": "R", "bil": "B", "bilat": "B", "both": "B", "bi": "B"}
    if affix in known:
        return [_Word(known[affix], True)]
    return [
        side
        for side in _words().beside.get(affix, ())
        if affix in ("l", "r", "lt", "rt", "li", "re")
    ]


def _belongs(side: _Word, at: int, part: Hit[Named], words: Sequence[str]) -> bool:
    if not vocabulary().is_paired(part.meaning.regions):
        return False
    if side.languages and part.meaning.language not in side.languages:
        return False
    between = words[part.end : at] if at >= part.end else words[at + 1 : part.start]
    return all(word in _BETWEEN or word.isdigit() for word in between)
