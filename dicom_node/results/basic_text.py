"""The same report for receivers that take text only: Basic Text SR (PS3.3 A.35.1).

That class has no numbers: each becomes a text with its unit and what it is about, under its own
coded name and with its modifiers. Only texts may have properties there: those of a code stand
behind it. Items stand apart, each with its name: a viewer that reads a container as running text
shows the values alone.

The document is no longer of TID 1500 and does not say that it is, nor does its title: OHIF takes
any document with that template's title for one of drawn measurements, and fails at ours.
"""

from __future__ import annotations

from typing import Final

from highdicom.sr import CodedConcept, RelationshipTypeValues, TextContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import BasicTextSRStorage

from dicom_node.model.wording import digits

TITLE: Final = codes.LN.DiagnosticImagingReport
"""Of CID 7000, Diagnostic Imaging Report Document Titles."""

_METHOD: Final = codes.SCT.MeasurementMethod.value

_SIGNS = {"%": "%", "mg/cm3": "mg/cm3", "[hnsf'U]": "HU"}
"""Units (UCUM) whose sign readers know better than their meaning in words."""


def make_basic_text(report: Dataset) -> None:
    """Turn an Enhanced SR of ours into a Basic Text SR, in place."""
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    report.ConceptNameCodeSequence = [CodedConcept.from_code(TITLE)]
    _convert(report)


def _convert(parent: Dataset) -> None:
    if "ContentTemplateSequence" in parent:
        del parent.ContentTemplateSequence
    if parent.ValueType == "CONTAINER":
        parent.ContinuityOfContent = "SEPARATE"
    if "ContentSequence" not in parent:
        return
    children: list[Dataset] = []
    for item in parent.ContentSequence:
        if item.ValueType == "NUM":
            item.ValueType = "TEXT"
            item.TextValue = number_in_words(item)
            del item.MeasuredValueSequence
        if item.ValueType == "SCOORD":
            children += _region_as_words(item)
            continue
        _convert(item)
        children.append(item)
        if item.ValueType == "CODE":
            children += _without_properties(item)
    parent.ContentSequence = children


def _region_as_words(region: Dataset) -> list[Dataset]:
    """A region as a text and the image that it lies on: the class has no coordinates."""
    words = TextContentItem(
        CodedConcept.from_dataset(region.ConceptNameCodeSequence[0]),
        region_in_words(region),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    images = list(region.ContentSequence)
    for image in images:
        image.RelationshipType = "CONTAINS"
    return [words, *images]


def region_in_words(region: Dataset) -> str:
    """The extent of an SCOORD in pixels, as "columns 10 to 42, rows 7 to 12.5"."""
    values = [float(value) for value in region.GraphicData]
    columns, rows = values[::2], values[1::2]
    return (
        f"columns {min(columns):.6g} to {max(columns):.6g}, rows {min(rows):.6g} to {max(rows):.6g}"
    )


def _without_properties(code: Dataset) -> list[Dataset]:
    """Take the properties from a code that a container holds; returns them as its neighbours."""
    children = list(code.get("ContentSequence") or [])
    properties = [item for item in children if item.RelationshipType == "HAS PROPERTIES"]
    others = [item for item in children if item.RelationshipType != "HAS PROPERTIES"]
    if others:
        code.ContentSequence = others
    elif properties:
        del code.ContentSequence
    for item in properties:
        item.RelationshipType = "CONTAINS"
    return properties


def number_in_words(item: Dataset) -> str:
    """A NUM's value with its unit and modifiers, such as "123.4 mg/cm3" or "71 % (grade 2)"."""
    value = item.MeasuredValueSequence[0]
    unit = value.MeasurementUnitsCodeSequence[0]
    sign = _SIGNS.get(str(unit.CodeValue), str(unit.CodeMeaning))
    about = [
        str(child.ConceptCodeSequence[0].CodeMeaning)
        for child in item.get("ContentSequence") or []
        if child.RelationshipType == "HAS CONCEPT MOD"
        and child.ValueType == "CODE"
        and child.ConceptNameCodeSequence[0].CodeValue != _METHOD
    ]
    extra = f" ({', '.join(about)})" if about else ""
    return f"{digits(float(value.NumericValue), sign)} {sign}{extra}"
