"""Which region an image shows, by whatever name its sender gives it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import yaml

_DESCRIPTIONS: Final = (
    ("ProtocolName", "0018,1030"),
    ("SeriesDescription", "0008,103E"),
    ("PerformedProcedureStepDescription", "0040,0254"),
    ("RequestedProcedureDescription", "0032,1060"),
    ("ProcedureCodeSequence", "0008,1032"),
    ("PerformedProtocolCodeSequence", "0040,0260"),
    ("StudyDescription", "0008,1030"),
    ("AcquisitionDeviceProcessingDescription", "0018,1400"),
)
"""Descriptions in their order of trust: what is nearest to the image first."""
_CODED: Final = (
    ("AnatomicRegionSequence", "0008,2218"),
    ("PrimaryAnatomicStructureSequence", "0008,2228"),
)
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What an image shows.

    Attributes:
        regions: Names of the vocabulary; empty when nothing tells.
        seen: The text or code that told.
        where: The attribute it stood in, with its tag.
        note: Another attribute that names another region; the more trusted one won.
    """

    regions: frozenset[str]
    seen: str = ""
    where: str = ""
    note: str = ""


class Vocabulary:
    """The words of `anatomy.yaml`, ready to be looked up."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.regions: Final = frozenset(data["regions"])
        self._generic = {normalised(text) for text in data["generic"]}
        self._codes: dict[tuple[str, str], str] = {}
        self._terms: dict[str, set[str]] = {}
        self._phrases: dict[str, set[str]] = {}
        self._stems: list[tuple[str, str]] = []
        self._part_of: dict[str, frozenset[str]] = {}
        for region, entry in data["regions"].items():
            self._part_of[region] = frozenset(entry.get("part_of", ()))
            for scheme, codes in entry["codes"].items():
                for code in codes:
                    self._codes[scheme, code] = region
            for term in (region, *entry["terms"]):
                self._terms.setdefault(normalised(term), set()).add(region)
            for word in (region, *entry["words"]):
                self._phrases.setdefault(normalised(word), set()).add(region)
            self._stems += [(normalised(stem), region) for stem in entry.get("stems", ())]

    def of_body_part(self, text: str) -> set[str]:
        """Return the regions of a Body Part Examined value; empty for a generic or unknown one."""
        plain = normalised(text)
        if plain in self._generic:
            return set()
        return set(self._terms.get(plain, ())) or self.in_text(text)

    def of_code(self, scheme: str, value: str) -> str | None:
        """Return the region of a code; SRT and the older SNM3 are one scheme."""
        kind = "SRT" if scheme.upper() in ("SRT", "SNM3", "99SDM") else scheme.upper()
        return self._codes.get((kind, value))

    def in_text(self, text: str) -> set[str]:
        """Return the regions that a description names."""
        plain = normalised(text)
        padded = f" {plain} "
        found: set[str] = set()
        for phrase, regions in self._phrases.items():
            if (phrase in plain) if _UNSPACED.search(phrase) else (f" {phrase} " in padded):
                found |= regions
        for word in plain.split():
            found |= {region for stem, region in self._stems if word.startswith(stem)}
        return found

    def widened(self, regions: set[str] | frozenset[str]) -> frozenset[str]:
        """Return the regions and those that hold them: a knee is a leg, a leg is no knee."""
        wide = set(regions)
        for region in regions:
            wide |= self._part_of.get(region, frozenset())
        return frozenset(wide)


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """Return the vocabulary that ships with the node."""
    text = files("dicom_node.routing").joinpath("anatomy.yaml").read_text(encoding="utf-8")
    return Vocabulary(yaml.safe_load(text))


@lru_cache(maxsize=4096)
def normalised(text: str) -> str:
    """Fold case, accents and punctuation; "KneeAP_rechts" becomes "knee ap rechts"."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    folded = unicodedata.normalize("NFKD", split.casefold())
    bare = "".join(c for c in folded if not unicodedata.combining(c))
    composed = unicodedata.normalize("NFKC", bare)
    return " ".join(re.findall(r"[^\W_]+", composed))


def anatomy_of(attributes: Mapping[str, Any]) -> Anatomy:
    """Find what an image shows: Body Part Examined, then coded regions, then descriptions."""
    said = list(_sources(attributes))
    if not said:
        seen = str(attributes.get("BodyPartExamined") or "")
        where = "BodyPartExamined (0018,0015)" if seen else ""
        return Anatomy(frozenset(), seen, where, "no attribute names a known region")
    regions, seen, where = said[0]
    words = vocabulary()
    wide = words.widened(regions)
    others = [f"{w} says {s!r}" for r, s, w in said[1:] if not words.widened(r) & wide]
    note = f"contradicted: {'; '.join(others)}" if others else ""
    return Anatomy(wide, seen, where, note)


def _sources(attributes: Mapping[str, Any]) -> Iterator[tuple[set[str], str, str]]:
    words = vocabulary()
    part = attributes.get("BodyPartExamined")
    if part and (regions := words.of_body_part(str(part))):
        yield regions, str(part), "BodyPartExamined (0018,0015)"
    for keyword, tag in _CODED:
        for code in _codes(attributes.get(keyword)):
            region = words.of_code(code["scheme"], code["value"])
            found = {region} if region else words.in_text(code["meaning"])
            if found:
                seen = f"({code['value']}, {code['scheme']}, {code['meaning']})"
                yield found, seen, f"{keyword} ({tag})"
    for keyword, tag in _DESCRIPTIONS:
        value = attributes.get(keyword)
        texts = [code["meaning"] for code in _codes(value)] or [str(value or "")]
        for text in texts:
            if text and (regions := words.in_text(text)):
                yield regions, text, f"{keyword} ({tag})"


def _codes(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list):
        return []
    return [
        {key: str(item.get(key, "")) for key in ("value", "scheme", "meaning")}
        for item in value
        if isinstance(item, Mapping)
    ]
