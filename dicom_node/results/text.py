"""An SR as plain text, from the object itself, so that it shows what was really sent."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.model.wording import digits, unit_sign
from dicom_node.results.basic_text import region_in_words

_GROUP = "125007"
_MEASUREMENTS = "126010"
_ROOT_WORDS = {"121071": "", "121106": "! "}
_HIDDEN = frozenset(
    {"112039", "112040", "363698007", "111001", "111002", "111003", "122405", "111000"}
)
"""Said in the heading (tracking, site), or once at the end (algorithm)."""

_METHOD = "370129005"
_ORDER = {"CODE": 0, "NUM": 1, "TEXT": 2}
"""Answers before numbers before remarks."""


def report_text(dataset: Dataset) -> str:
    """Render an Imaging Measurement Report (TID 1500) for a terminal.

    The statement first, the restrictions, then each subject with its evaluations and numbers,
    each with its code. Names no patient.
    """
    lines = [str(dataset.get("SeriesDescription") or _name(dataset)), ""]
    measurements: list[Dataset] = []
    for item in _children(dataset):
        value = _code(item)
        if value in _ROOT_WORDS:
            lines.append(f"{_ROOT_WORDS[value]}{item.TextValue}")
        elif value == _MEASUREMENTS:
            measurements += _children(item)
    for group in measurements:
        if _code(group) == _GROUP:
            lines += ["", *_group(group)]
    lines += ["", *_made_by(dataset)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _group(group: Dataset) -> Iterator[str]:
    children = list(_children(group))
    name = next((str(c.TextValue) for c in children if _code(c) == "112039"), "?")
    sites = [_site(c) for c in children if _code(c) == "363698007"]
    yield f"{name} ({'; '.join(sites)})" if sites else name
    images = sum(child.ValueType == "IMAGE" for child in children)
    shown = [c for c in children if c.ValueType != "IMAGE" and _code(c) not in _HIDDEN]
    for item in sorted(shown, key=lambda c: _ORDER.get(c.ValueType, len(_ORDER))):
        yield from _line(item, 2)
    if images:
        yield f"  Source images: {images}"


def _site(item: Dataset) -> str:
    sides = [_meaning(c.ConceptCodeSequence) for c in _children(item) if c.ValueType == "CODE"]
    return ", ".join([_meaning(item.ConceptCodeSequence), *sides])


def _line(item: Dataset, indent: int) -> Iterator[str]:
    modifiers = [
        c
        for c in _children(item)
        if c.get("RelationshipType") == "HAS CONCEPT MOD" and _code(c) != _METHOD
    ]
    rest = [c for c in _children(item) if c.get("RelationshipType") != "HAS CONCEPT MOD"]
    about = ", ".join(_value(c) for c in modifiers)
    extra = f"  ({about})" if about else ""
    yield f"{' ' * indent}{_name(item)}: {_value(item)}{extra}"
    for child in rest:
        yield from _line(child, indent + 4)


def _value(item: Dataset) -> str:
    kind = item.ValueType
    if kind == "CODE":
        code = item.ConceptCodeSequence[0]
        value = code.get("CodeValue") or code.get("LongCodeValue")
        return f"{code.CodeMeaning} [{value}, {code.CodingSchemeDesignator}]"
    if kind == "NUM":
        measured = item.MeasuredValueSequence[0]
        unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
        return f"{digits(float(measured.NumericValue), unit)} {unit_sign(unit)}".rstrip()
    if kind == "UIDREF":
        return str(item.UID)
    if kind == "SCOORD":
        return region_in_words(item)
    return str(item.TextValue) if kind == "TEXT" else kind.lower()


def _made_by(dataset: Dataset) -> Iterator[str]:
    for item in _children(dataset):
        if _code(item) == "121058":
            yield f"Procedure: {_value(item)}"
    for item in dataset.get("ContributingEquipmentSequence") or []:
        yield (
            f"Made by: {item.get('Manufacturer', '')} {item.get('ManufacturerModelName', '')} "
            f"{item.get('SoftwareVersions', '')}, device {item.get('DeviceUID', '')}"
        )
    flags = (dataset.get(key, "") for key in ("CompletionFlag", "VerificationFlag"))
    yield f"Document: {', '.join(str(flag).lower() for flag in flags)}"


def _children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or [])


def _name(item: Dataset) -> str:
    return _meaning(item.get("ConceptNameCodeSequence"))


def _code(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence") or []
    return str(names[0].get("CodeValue", "")) if names else ""


def _meaning(sequence: list[Dataset] | None) -> str:
    return str(sequence[0].CodeMeaning) if sequence else ""
