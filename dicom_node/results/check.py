"""The gate: an object that is not right is not sent, and the job says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from dicom_node.errors import ReportError
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.results import check_tables as tables
from dicom_node.results.check_references import (
    Known,
    Problems,
    evidence,
    predecessors,
    references,
    refers,
    values_of,
)
from dicom_node.results.coded import coded_items, used_schemes
from dicom_node.results.headers import COPIED, TYPE_2

_COPIED_TAGS: Final = frozenset(tag_for_keyword(keyword) for keyword in COPIED)

_WRITTEN_AS_TEXT: Final = frozenset({"DA", "DS", "DT", "IS", "TM"})


def check_object(
    dataset: Dataset, sources: Iterable[Dataset], ours: Iterable[Dataset] = ()
) -> None:
    """Refuse an object that does not meet the tables of `check_tables`.

    Args:
        sources: Headers of the images that it may refer to; all of its study.
        ours: The objects of the same report, to which a key object selection may refer.

    Raises:
        ReportError: With what is wrong; never with a value, which may be patient data.
    """
    by_uid = {str(h.SOPInstanceUID): h for h in sources}
    sop_class = str(dataset.get("SOPClassUID") or "")
    if sop_class not in tables.TYPE_1:
        raise ReportError(
            "a result object", "its SOP class is not one that we make", "report this as a defect"
        )
    problems = [problem for rule in _RULES for problem in rule(dataset, by_uid)]
    if sop_class not in (*tables.RELATIONSHIPS, tables.SC_CLASS):
        known = {str(made.SOPInstanceUID): made for made in ours} | by_uid
        problems += references(dataset, known)
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ReportError(
            f"result {dataset.get('Modality', '?')} {dataset.get('SOPInstanceUID', '?')}",
            "; ".join(problems[:5]) + more,
            "nothing was sent; check the pipeline's dicom.yaml, or report this as a defect",
        )


def _attributes(dataset: Dataset, _: Known) -> Problems:
    sop_class = str(dataset.SOPClassUID)
    for keyword in tables.TYPE_1[sop_class]:
        if _empty(dataset, keyword):
            yield f"{keyword} is missing or empty"
    for keyword in (*TYPE_2, *tables.TYPE_2[sop_class]):
        if keyword not in dataset:
            yield f"{keyword} is missing"
    for keyword, wanted in tables.FIXED[sop_class].items():
        if dataset.get(keyword) != wanted:
            yield f"{keyword} is not {wanted}"


def _uids(dataset: Dataset, known: Known) -> Problems:
    for element in dataset.iterall():
        if element.VR == "UI":
            for value in values_of(element.value):
                if not is_valid_uid(str(value)):
                    yield f"{element.keyword} is not a UID"
    meta = getattr(dataset, "file_meta", None)
    if meta is None or meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "the file meta information does not name the instance"
    if dataset.get("SOPInstanceUID") in known:
        yield "SOPInstanceUID is that of a source"
    if dataset.get("SeriesInstanceUID") in {h.get("SeriesInstanceUID") for h in known.values()}:
        yield "SeriesInstanceUID is that of a source"
    if dataset.get("StudyInstanceUID") not in {h.get("StudyInstanceUID") for h in known.values()}:
        yield "StudyInstanceUID is not that of a source"


def _values_fit(dataset: Dataset, _: Known) -> Problems:
    """Our own elements keep to their value representations; the copied ones are the source's."""
    for tag in dataset.keys():  # noqa: SIM118 - iterating would decode what was copied raw
        if tag not in _COPIED_TAGS:
            yield from _fits(dataset, tag)


def _fits(dataset: Dataset, tag: Any) -> Problems:
    element = dataset[tag]
    if element.VR == "SQ":
        for item in element.value or []:
            for child in item.keys():  # noqa: SIM118
                yield from _fits(item, child)
        return
    for value in values_of(element.value):
        try:
            shown = str(value) if element.VR in _WRITTEN_AS_TEXT else value
            validate_value(element.VR, shown, config.RAISE)
        except ValueError:
            yield f"{element.keyword} does not fit its value representation {element.VR}"


def _codes(dataset: Dataset, _: Known) -> Problems:
    for item in coded_items(dataset):
        has_value = any(item.get(k) for k in ("CodeValue", "LongCodeValue", "URNCodeValue"))
        if not (has_value and item.get("CodingSchemeDesignator") and item.get("CodeMeaning")):
            yield "a code lacks its value, scheme or meaning"
    declared = {
        str(item.CodingSchemeDesignator)
        for item in dataset.get("CodingSchemeIdentificationSequence") or []
    }
    for scheme in used_schemes(dataset):
        if scheme.startswith("99") and scheme not in declared:
            yield f"coding scheme {scheme} is used and not declared"


def _equipment(dataset: Dataset, _: Known) -> Problems:
    items = dataset.get("ContributingEquipmentSequence") or []
    processing = [
        item for item in items if _code(item, "PurposeOfReferenceCodeSequence") == ("109102", "DCM")
    ]
    if not processing:
        yield "no contributing equipment is the processing equipment (109102, DCM)"
    for item in processing:
        for keyword in tables.EQUIPMENT_TYPE_1:
            if _empty(item, keyword):
                yield f"{keyword} of the processing equipment is missing or empty"


def _pixels(dataset: Dataset, known: Known) -> Problems:
    if dataset.SOPClassUID != tables.SC_CLASS:
        return
    if len(dataset.get("PixelData") or b"") not in _pixel_lengths(dataset):
        yield "PixelData has not the length of Rows, Columns and three samples"
    if list(dataset.get("ImageType") or [])[:2] != ["DERIVED", "SECONDARY"]:
        yield "ImageType does not begin with DERIVED, SECONDARY"
    for item in dataset.get("SourceImageSequence") or []:
        yield from refers(item, known)


def _pixel_lengths(dataset: Dataset) -> set[int]:
    length = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * 3
    return {length + length % 2}


def _document(dataset: Dataset, known: Known) -> Problems:
    sop_class = str(dataset.SOPClassUID)
    if sop_class not in tables.RELATIONSHIPS or _empty(dataset, "ContentSequence"):
        return
    by_template = sop_class != tables.TEXT_CLASS  # whose numbers are texts
    title = ("126000", "DCM") if by_template else ("18748-4", "LN")
    if _code(dataset, "ConceptNameCodeSequence") != title:
        yield f"the document's title is not {title}"
    if by_template and _template(dataset) != "1500":
        yield "the root does not name TID 1500"
    yield from _tree(dataset, tables.RELATIONSHIPS[sop_class])
    yield from _children(dataset, tables.ROOT_CHILDREN, "the report")
    groups = [
        group
        for part in _named(dataset, ("126010", "DCM"))
        for group in _named(part, ("125007", "DCM"))
    ]
    if not groups:
        yield "there is no Measurement Group"
    for group in groups:
        drawn = _named(group, ("111030", "DCM"))
        wanted = "1410" if drawn else "1501"
        if by_template and _template(group) != wanted:
            yield f"a Measurement Group does not name TID {wanted}"
        yield from _children(group, tables.GROUP_CHILDREN, "a Measurement Group")
    yield from evidence(dataset, known)
    yield from predecessors(dataset)


def _tree(parent: Dataset, allowed: tables.Relationships) -> Problems:
    for item in parent.get("ContentSequence") or []:
        kind, relation = str(item.get("ValueType")), str(item.get("RelationshipType"))
        parents, children = allowed.get(relation, (frozenset(), frozenset()))
        if parent.ValueType not in parents or kind not in children:
            yield f"{parent.ValueType} may not have {kind} by {relation}"
        if kind not in ("IMAGE", "CONTAINER") and _empty(item, "ConceptNameCodeSequence"):
            yield f"a {kind} has no concept name"
        if kind in tables.VALUE_ELEMENT and _empty(item, tables.VALUE_ELEMENT[kind]):
            yield f"a {kind} has no value"
        if kind == "NUM":
            yield from _number(item)
        yield from _tree(item, allowed)


def _number(item: Dataset) -> Problems:
    for value in item.get("MeasuredValueSequence") or []:
        number = value.get("NumericValue")
        if number is None or not math.isfinite(float(number)):
            yield "a NUM has no finite value"
        if _empty(value, "MeasurementUnitsCodeSequence"):
            yield "a NUM has no unit"


def _children(item: Dataset, wanted: dict[str, tuple[str, str]], where: str) -> Problems:
    for name, code in wanted.items():
        if not _named(item, code):
            yield f"{where} has no {name}"


def _named(parent: Dataset, code: tuple[str, str]) -> list[Dataset]:
    return [
        item
        for item in parent.get("ContentSequence") or []
        if _code(item, "ConceptNameCodeSequence") == code
    ]


def _template(item: Dataset) -> str:
    sequence = item.get("ContentTemplateSequence") or []
    return str(sequence[0].get("TemplateIdentifier")) if sequence else ""


def _code(item: Dataset, keyword: str) -> tuple[str, str]:
    sequence = item.get(keyword) or []
    if not sequence:
        return "", ""
    return str(sequence[0].get("CodeValue")), str(sequence[0].get("CodingSchemeDesignator"))


def _empty(dataset: Dataset, keyword: str) -> bool:
    if keyword not in dataset:
        return True
    value = dataset[keyword].value
    return value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0)


_RULES: Final[tuple[Callable[[Dataset, Known], Problems], ...]] = (
    _attributes,
    _uids,
    _values_fit,
    _codes,
    _equipment,
    _pixels,
    _document,
)
