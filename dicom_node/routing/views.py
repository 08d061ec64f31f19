"""Which view a radiograph is: View Position, View Code Sequence, then what its series is called.

Source: PS3.3 C.8.7.10 / C.8.1.3 (View Position), PS3.16 CID 4010 (View Code Sequence).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import yaml

from dicom_node.model.text import codes_of, folded, squashed, texts_of
from dicom_node.routing.phrases import Phrases
from dicom_node.routing.sources import IMAGE_DESCRIPTIONS, described, shortened, where

UNKNOWN: Final = "UNKNOWN"
"""The view of an image that does not say."""

READS: Final = (
    "ViewPosition",
    "ViewCodeSequence",
    "BodyPartExamined",
    *(source.keyword for source in IMAGE_DESCRIPTIONS),
)
"""Keywords of the attributes that `view_of` looks at."""

_SILENT: Final = frozenset(
    {"", "unknown", "none", "other", "unspecified", "undefined", "na", "default"}
)
_FRONTAL: Final = frozenset({"AP", "PA"})


@dataclass(frozen=True, slots=True)
class View:
    """The view of an image.

    Attributes:
        name: "AP", "LATERAL" …; as sent, in capitals, when it is another; UNKNOWN.
        seen: The value that told, as sent.
        where: The attribute that it stood in, with its tag.
        why: What else the reader should know.
    """

    name: str
    seen: str = ""
    where: str = ""
    why: str = ""


class _Views:
    def __init__(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        self.kinds = {name: entry.get("kind", name) for name, entry in data.items()}
        self.codes = {code: name for name, entry in data.items() for code in entry["codes"]}
        self.positions = {
            squashed(text): name
            for name, entry in data.items()
            for text in (name, *entry.get("position", ()))
            if "+" not in name
        }
        self._phrases: Phrases[str] = Phrases()
        for name, entry in data.items():
            for text in entry["words"]:
                self._phrases.add(text, name)

    def in_text(self, text: str) -> frozenset[str]:
        """Return the views that a text names; a broader one gives way to its special case."""
        found = {name for hit in self._phrases.find(text) for name in hit.meaning.split("+")}
        if "OBLIQUE" in {self.kinds[name] for name in found}:
            found -= _FRONTAL
        broader = {self.kinds[name] for name in found if self.kinds[name] != name}
        return frozenset(found - broader)


@lru_cache(maxsize=1)
def _views() -> _Views:
    text = files("dicom_node.routing").joinpath("views.yaml").read_text(encoding="utf-8")
    return _Views(yaml.safe_load(text))


def view_of(attributes: Mapping[str, Any]) -> View:
    """Return the view of an image; UNKNOWN when no attribute names exactly one.

    View Position is trusted first, then View Code Sequence. Only when both are silent the texts
    about the image or its series are read ("Knie a.p."), and only if they name one view.
    """
    said = list(_said(attributes))
    if not said:
        return View(UNKNOWN, why="neither View Position nor View Code nor the series names a view")
    first = said[0]
    others = [v for v in said[1:] if not _related(first.name, v.name)]
    if first.name == UNKNOWN or not others:
        return first
    told = "; ".join(f"“{view.seen}” in {view.where}" for view in others)
    why = f"contradicted by {told}, which is trusted less"
    return View(first.name, first.seen, first.where, why)


def meets(view: str, wanted: str) -> bool:
    """Tell whether a view is one that a condition wants, a special case of it included.

    `frontal` is met by AP and PA; an image that only says "frontal" is neither AP nor PA.
    """
    name = UNKNOWN if squashed(wanted) == squashed(UNKNOWN) else named(wanted)
    kind = _views().kinds.get(view, view)
    return name in (view, kind) or (name == "FRONTAL" and not _FRONTAL.isdisjoint({view, kind}))


def is_known(wanted: str) -> bool:
    """Tell whether a condition names a view that we know; another is met by its own name alone."""
    name = named(wanted)
    return name in _views().kinds or squashed(wanted) == squashed(UNKNOWN)


@lru_cache(maxsize=1024)
def named(text: str) -> str:
    """Return the view that a View Position names; the text in capitals if it is another."""
    views = _views()
    if squashed(text) in _SILENT:
        return UNKNOWN
    position = views.positions.get(squashed(text))
    if position is not None:
        return position
    found = views.in_text(text)
    if len(found) > 1:
        return UNKNOWN
    return next(iter(found), folded(text).upper() or UNKNOWN)


def _said(attributes: Mapping[str, Any]) -> Iterator[View]:
    views = _views()
    for text in texts_of(attributes.get("ViewPosition")):
        name = named(text)
        if name != UNKNOWN:
            yield View(name, shortened(text), where("ViewPosition"))
        elif len(views.in_text(text)) > 1:
            why = "it names several views"
            yield View(UNKNOWN, shortened(text), where("ViewPosition"), why)
    for _, value, meaning in codes_of(attributes.get("ViewCodeSequence")):
        name = views.codes.get(value) or (named(meaning) if meaning else UNKNOWN)
        if name != UNKNOWN:
            yield View(name, shortened(f"({value}, {meaning})"), where("ViewCodeSequence"))
    texts = [("BodyPartExamined", text) for text in texts_of(attributes.get("BodyPartExamined"))]
    texts += [(s.keyword, text) for s, text in described(attributes, IMAGE_DESCRIPTIONS)]
    for keyword, text in texts:
        found = views.in_text(text)
        if len(found) == 1:
            yield View(next(iter(found)), shortened(text), where(keyword))


def _related(some: str, other: str) -> bool:
    kinds = _views().kinds
    kind, other_kind = kinds.get(some, some), kinds.get(other, other)
    frontal = {"FRONTAL", *_FRONTAL}
    return kind == other_kind or ({kind, other_kind} <= frontal and "FRONTAL" in (kind, other_kind))
