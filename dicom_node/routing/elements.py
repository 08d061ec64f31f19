"""The condition on any element of a header: equals, contains, matches, range, present."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dicom_node.model.conditions import Range, Test
from dicom_node.model.decisions import Verdict
from dicom_node.routing.sources import may_be_shown, shortened, where

_HIDDEN: Final = "(not shown: patient data)"


def judge_element(keyword: str, test: Test, attributes: Mapping[str, Any]) -> Verdict:
    """Judge one entry of `attributes`; of several values one has to pass. Case does not matter."""
    condition = f"attributes.{keyword}"
    if test.range is not None:
        return judge_range(condition, keyword, test.range, attributes)
    value = attributes.get(keyword)
    if test.present is not None:
        wanted = ["present" if test.present else "absent"]
        holds = is_empty(value) != test.present
        return verdict(condition, wanted, _shown(keyword, value), where(keyword), holds)
    name, texts, passes = _comparison(test)
    wanted = [f"{name} {text}" for text in texts]
    holds = any(passes(have, want) for have in _texts(value) for want in texts)
    return verdict(condition, wanted, _shown(keyword, value), where(keyword), holds)


def judge_range(
    condition: str, keyword: str, wanted: Range, attributes: Mapping[str, Any]
) -> Verdict:
    """Judge a closed range of numbers; an element without a number is outside."""
    value = attributes.get(keyword)
    numbers = [number for text in _texts(value) if (number := number_of(text)) is not None]
    holds = any(
        (wanted.min is None or number >= wanted.min)
        and (wanted.max is None or number <= wanted.max)
        for number in numbers
    )
    ends = (("at least", wanted.min), ("at most", wanted.max))
    text = " and ".join(f"{word} {end:g}" for word, end in ends if end is not None)
    return verdict(condition, [text], _shown(keyword, value), where(keyword), holds)


def verdict(
    condition: str, wanted: Sequence[Any], seen: str, where: str, holds: bool, note: str = ""
) -> Verdict:
    """Make a verdict; what was wanted is told as the alternatives of `node.yaml`."""
    text = " or ".join(
        str(item).lower() if isinstance(item, bool) else str(item) for item in wanted
    )
    return Verdict(condition, text, seen, where, holds, note)


def is_empty(value: Any) -> bool:
    """Tell whether an attribute is absent or without a value."""
    return value is None or value in ("", [])


def number_of(text: str) -> float | None:
    """Read a number; None when it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _comparison(test: Test) -> tuple[str, Sequence[str], Callable[[str, str], bool]]:
    if test.equals is not None:
        return "equals", test.equals, lambda have, want: have.casefold() == want.casefold()
    if test.contains is not None:
        return "contains", test.contains, lambda have, want: want.casefold() in have.casefold()
    return "matches", [test.matches or ""], _matches


def _matches(have: str, pattern: str) -> bool:
    return re.search(pattern, have, re.IGNORECASE) is not None


def _texts(value: Any) -> list[str]:
    """Return an element's values as texts; of a number every way to write it."""
    if value is None:
        return []
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, Mapping):
        return [str(item) for item in value.values()]
    if isinstance(value, float) and value.is_integer():
        return [str(value), str(int(value))]
    return [str(value)]


def _shown(keyword: str, value: Any) -> str:
    if is_empty(value):
        return ""
    if not may_be_shown(keyword):
        return _HIDDEN
    items = value if isinstance(value, list) else [value]
    return shortened("\\".join(_shown_item(item) for item in items))


def _shown_item(item: Any) -> str:
    if isinstance(item, Mapping):
        return " ".join(str(part) for part in item.values() if part)
    return f"{item:g}" if isinstance(item, float) else str(item)
