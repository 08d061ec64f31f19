"""The anatomy vocabulary of `anatomy.yaml`, ready to be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import yaml

from dicom_node.model.text import squashed
from dicom_node.routing.phrases import Hit, Phrases

Regions = frozenset[str]
"""Names of the vocabulary's regions ("knee")."""

_NOTHING: Final[Regions] = frozenset()
_SNOMED_SCHEMES: Final = frozenset(
    {"SCT", "SRT", "SNM3", "99SDM", "SNOMED", "SNOMEDCT", "2.16.840.1.113883.6.96"}
)
"""SNOMED CT, and the designators that SNOMED-RT identifiers were sent with (PS3.16 section 8.2)."""
_SHORTEST_MISSPELT: Final = 6
_GLUED: Final = ("la", "en")


@dataclass(frozen=True, slots=True)
class Named:
    """What a phrase names: regions (none: it names none on purpose), in which language."""

    regions: Regions
    language: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How a text was read; `misspelt` when a word was taken for a similar one."""

    regions: Regions
    misspelt: str = ""


class Vocabulary:
    """Regions by code, by Body Part Examined value and by the words of descriptions."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        regions: Mapping[str, Mapping[str, Any]] = data["regions"]
        self.regions: Final[Regions] = frozenset(regions)
        self._paired = frozenset(name for name, entry in regions.items() if entry.get("paired"))
        self._shows = {name: frozenset(entry.get("shows", ())) for name, entry in regions.items()}
        self._within = {name: _closure(name, regions) for name in regions}
        self._generic = {squashed(text) for text in data["generic"]}
        self._codes: dict[str, Regions] = {}
        self._terms: dict[str, Regions] = {}
        self._phrases: Phrases[Named] = Phrases()
        self._phrases.glue(**data["glued"])
        for phrase in data["ignored"]:
            self._phrases.add(phrase, Named(_NOTHING, ""))
        for entry in data["combined"]:
            meaning = frozenset(entry["regions"])
            self._add(meaning, entry, {"en": entry["words"]})
        for name, entry in regions.items():
            self._add(frozenset({name}), entry, entry["words"])

    def of_code(self, scheme: str, value: str) -> Regions:
        """Return the regions of a SNOMED code; none for an unknown code or another scheme."""
        known = scheme.upper().replace("-", "").replace(" ", "") in _SNOMED_SCHEMES
        return self._codes.get(value.upper(), _NOTHING) if known else _NOTHING

    @lru_cache(maxsize=1024)  # noqa: B019 - one vocabulary lives as long as the process
    def of_body_part(self, text: str) -> Reading:
        """Read a Body Part Examined value; a generic one ("OTHER") names no region.

        The only place where misspellings are guessed: the value comes from a list of body
        parts, so a word one letter away from exactly one of them is that one.
        """
        plain = squashed(text)
        if not plain or plain in self._generic:
            return Reading(_NOTHING)
        regions = self._terms.get(plain) or self.in_text(text)
        if regions:
            return Reading(regions)
        near = {term for term in self._terms if _one_edit_apart(plain, term)}
        meanings = {self._terms[term] for term in near}
        if len(meanings) == 1:
            return Reading(meanings.pop(), misspelt=min(near))
        return Reading(_NOTHING)

    def mend_body_part(self, text: str) -> str:
        """Say how to mend a body part that no image can meet; "" for one that is known."""
        if self.of_body_part(text).regions:
            return ""
        for names in (self.regions, self._terms):
            near = get_close_matches(squashed(text), sorted(names), n=1)
            if near and not self.is_generic(text):
                return f"did you mean `{near[0]}`?"
        return f"known, by any of their names: {', '.join(sorted(self.regions))}"

    def is_generic(self, text: str) -> bool:
        """Tell whether a Body Part Examined value says nothing on purpose."""
        return squashed(text) in self._generic

    def in_text(self, text: str) -> Regions:
        """Return the regions that a description names."""
        return _NOTHING.union(*(hit.meaning.regions for hit in self.hits(text)))

    @lru_cache(maxsize=4096)  # noqa: B019 - one vocabulary lives as long as the process
    def hits(self, text: str) -> tuple[Hit[Named], ...]:
        """Return the phrases in a text, with their places and languages."""
        return tuple(hit for hit in self._phrases.find(text) if hit.meaning.regions)

    def is_paired(self, regions: Iterable[str]) -> bool:
        """Tell whether the body has two of any of the regions."""
        return not self._paired.isdisjoint(regions)

    def widened(self, regions: Iterable[str]) -> Regions:
        """Return the regions and those that hold them: a knee is a leg, a leg is no knee."""
        return _NOTHING.union(*(self._within[region] for region in regions))

    def narrowest(self, regions: Regions) -> Regions:
        """Return the regions that hold none of the others: a knee of a leg and a knee."""
        held = _NOTHING.union(*(self._within[region] - {region} for region in regions))
        return regions - held

    def shown_by(self, regions: Iterable[str]) -> Regions:
        """Return the neighbours that an image of the regions usually shows too."""
        return _NOTHING.union(*(self._shows[region] for region in self.widened(regions)))

    def refines(self, precise: Regions, broad: Regions) -> bool:
        """Tell whether every one of `precise` is a part, or shown by, one of `broad`."""
        seen = self.shown_by(broad)
        return bool(precise) and all(
            not (self._within[region] - {region}).isdisjoint(broad)
            or not self._within[region].isdisjoint(seen)
            for region in precise - broad
        )

    def agree(self, some: Regions, others: Regions) -> bool:
        """Tell whether two statements about one image can both be true."""
        wide, other_wide = self.widened(some), self.widened(others)
        return not (
            wide.isdisjoint(others)
            and other_wide.isdisjoint(some)
            and wide.isdisjoint(self.shown_by(others))
            and other_wide.isdisjoint(self.shown_by(some))
        )

    def _add(
        self, meaning: Regions, entry: Mapping[str, Any], words: Mapping[str, list[str]]
    ) -> None:
        for codes in entry["codes"].values():
            self._codes.update(dict.fromkeys(codes, meaning))
        names = meaning if len(meaning) == 1 else ()
        for term in (*names, *entry["terms"]):
            self._terms.setdefault(squashed(term), meaning)
        for language, listed in words.items():
            named = Named(meaning, language)
            glue = language in _GLUED
            for word in (*listed, *(_plurals(listed) if language == "en" else ())):
                self._phrases.add(word, named, gluable=glue)


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """Return the vocabulary that ships with the node."""
    text = files("dicom_node.routing").joinpath("anatomy.yaml").read_text(encoding="utf-8")
    return Vocabulary(yaml.safe_load(text))


def _closure(name: str, regions: Mapping[str, Mapping[str, Any]]) -> Regions:
    within = {name}
    for outer in regions[name].get("within", ()):
        within |= _closure(outer, regions)
    return frozenset(within)


def _plurals(words: Iterable[str]) -> list[str]:
    return [f"{word}s" for word in words if word[-1].isalpha() and not word.endswith("s")]


def _one_edit_apart(some: str, other: str) -> bool:
    """Tell whether one letter added, left out, changed or two swapped make the same word."""
    if min(len(some), len(other)) < _SHORTEST_MISSPELT or abs(len(some) - len(other)) > 1:
        return False
    pairs = zip(some, other, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(some), len(other)))
    rest, other_rest = some[at:], other[at:]
    return (
        rest[1:] == other_rest[1:]
        or rest[1:] == other_rest
        or rest == other_rest[1:]
        or (rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:])
    )
