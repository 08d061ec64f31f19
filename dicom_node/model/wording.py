"""Conditions and units in words, as lists and pages show them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from dicom_node.model.conditions import Conditions, Range, Test
from dicom_node.model.findings import Side

_SIDES = {Side.RIGHT: "right", Side.LEFT: "left", Side.UNKNOWN: "unknown", Side.NONE: "none"}

_UNIT_SIGNS = {"[hnsf'U]": "HU", "1": ""}
_POWER = re.compile(r"(?<=m)[23]\b")


def unit_sign(code: str) -> str:
    """Return a UCUM unit as a reader knows it: "HU" for "[hnsf'U]"; none for a pure number.

    What stands in braces is a word for a pure number ("{score}").
    """
    if code in _UNIT_SIGNS or code.startswith("{"):
        return _UNIT_SIGNS.get(code, code.strip("{}"))
    return _POWER.sub(lambda found: {"2": "²", "3": "³"}[found[0]], code)


def digits(value: float, sign: str) -> str:
    """As many digits as a reader can use; the other forms of the SR hold them all."""
    if sign != "%":
        return f"{value:.6g}"
    if 0 < value < 0.1:
        return "less than 0.1"
    if 99.9 < value < 100:
        return "more than 99.9"
    return f"{value:.1f}".removesuffix(".0")


def percent(probability: float) -> str:
    """A probability for a reader: never "100 %" or "0 %" for what is not certain."""
    if probability > 0.99:
        return "> 99 %"
    if probability < 0.01:
        return "< 1 %"
    return f"{100 * probability:.0f} %"


def with_uncertainty(value: float, uncertainty: float) -> str:
    """Both to the last place that the uncertainty leaves: "64.0 ± 5.1", "119 ± 8"."""
    small = 0 < uncertainty < 10 and abs(value) < 100
    places = max(0, 1 - math.floor(math.log10(uncertainty))) if small else 0
    return f"{value:.{places}f} ± {uncertainty:.{places}f}"


def in_words(when: Conditions) -> str:
    """Say what images meet the conditions: "CR, DX; body part knee; view AP, PA or unknown".

    Every condition that is set is said; "any image" when none is.
    """
    said: list[str] = []
    if when.modality:
        said.append(", ".join(when.modality))
    if when.body_part:
        said.append(f"body part {either(when.body_part)}")
    if when.view:
        said.append(f"view {either(when.view)}")
    if when.laterality:
        said.append(f"side {either(_SIDES[side] for side in when.laterality)}")
    if when.sender:
        said.append(f"from {either(when.sender)}")
    if when.sop_class:
        said.append(f"SOP class {either(when.sop_class)}")
    if when.contrast is not None:
        said.append("with contrast" if when.contrast else "without contrast")
    if when.slice_thickness_mm:
        said.append(f"slices {_range(when.slice_thickness_mm)} mm")
    if when.image_type:
        said.append(f"image type with {' and '.join(when.image_type)}")
    if when.not_image_type:
        said.append(f"image type without {' or '.join(when.not_image_type)}")
    said += [f"{keyword} {_test(test)}" for keyword, test in when.attributes.items()]
    return "; ".join(said) or "any image"


def either(items: Iterable[str]) -> str:
    """Join with commas and a last "or": "AP, PA or unknown"."""
    *first, last = items
    return f"{', '.join(first)} or {last}" if first else last


def _range(of: Range) -> str:
    if of.min is None:
        return f"at most {of.max:g}"
    if of.max is None:
        return f"at least {of.min:g}"
    return f"{of.min:g} to {of.max:g}"


def _test(test: Test) -> str:
    if test.equals:
        return f"is {either(test.equals)}"
    if test.contains:
        return f"contains {either(test.contains)}"
    if test.matches is not None:
        return f"matches /{test.matches}/"
    if test.range:
        return f"is {_range(test.range)}"
    return "is present" if test.present else "is absent"
