"""The gate's rules for references: only to sources that exist, by their right class and frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.results.headers import numbers

Problems = Iterator[str]
Known = dict[str, Dataset]


def evidence(dataset: Dataset, known: Known) -> Problems:
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in dataset.get(keyword) or []
        for series in study.get("ReferencedSeriesSequence") or []
        for instance in series.get("ReferencedSOPSequence") or []
    }
    for item in _all_items(dataset):
        for reference in item.get("ReferencedSOPSequence") or []:
            yield from refers(reference, known)
            if str(reference.get("ReferencedSOPInstanceUID")) not in listed:
                yield "an image is referred to and not listed as evidence"


def predecessors(dataset: Dataset) -> Problems:
    """An earlier document is another one, of the same study."""
    for study in dataset.get("PredecessorDocumentsSequence") or []:
        if study.get("StudyInstanceUID") != dataset.get("StudyInstanceUID"):
            yield "an earlier document is of another study"
        for series in study.get("ReferencedSeriesSequence") or []:
            if series.get("SeriesInstanceUID") == dataset.get("SeriesInstanceUID"):
                yield "an earlier document is of the same series"
            for instance in series.get("ReferencedSOPSequence") or []:
                if instance.get("ReferencedSOPInstanceUID") == dataset.get("SOPInstanceUID"):
                    yield "a document replaces itself"


def references(dataset: Dataset, known: Known) -> Problems:
    """Every reference of an object without rules of its own, wherever it stands."""
    found = False
    for element in dataset.iterall():
        if element.VR != "SQ":
            continue
        for item in element.value or []:
            if "ReferencedSOPInstanceUID" in item:
                found = True
                yield from refers(item, known)
    if not found:
        yield "it refers to no source"


def refers(reference: Dataset, known: Known) -> Problems:
    source = known.get(str(reference.get("ReferencedSOPInstanceUID")))
    if source is None:
        yield "an image is referred to that is not a source"
        return
    if reference.get("ReferencedSOPClassUID") != source.SOPClassUID:
        yield "a reference names another SOP class than the source has"
    frames = (numbers(source, "NumberOfFrames", 1) or (1,))[0]
    for frame in values_of(reference.get("ReferencedFrameNumber")):
        if not 1 <= int(frame) <= frames:
            yield "a reference names a frame that the source has not"


def _all_items(parent: Dataset) -> Iterator[Dataset]:
    for item in parent.get("ContentSequence") or []:
        yield item
        yield from _all_items(item)


def values_of(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]
