"""Findings to the DICOM objects that are sent: an SR, pictures, and what the pipeline asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import cached_property
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from dicom_node.model.findings import Finding, Findings, ImageReference
from dicom_node.model.pipeline import InputKind, PipelineSpec, ResultObject
from dicom_node.model.predecessor import Predecessor
from dicom_node.results.card import compose_card
from dicom_node.results.check import check_object
from dicom_node.results.derived import UnfitSourceError
from dicom_node.results.forms import OTHER_FORMS, other_form
from dicom_node.results.headers import Sources
from dicom_node.results.key_objects import build_key_objects
from dicom_node.results.montage import compose_montage
from dicom_node.results.origin import Origin
from dicom_node.results.overlay import Composition, compose_overlay
from dicom_node.results.parametric import build_parametric_maps
from dicom_node.results.pdf import build_pdf
from dicom_node.results.presentation import build_presentation_states
from dicom_node.results.replaces import replaces_in_words
from dicom_node.results.sc import build_sc
from dicom_node.results.segmentation import build_segmentations
from dicom_node.results.sr import build_sr
from dicom_node.results.volume import stack_of

Pictures = Mapping[str, npt.NDArray[np.uint8]]
"""The displayed picture, [H, W], bright bone, of each analysed image, by `ImageReference.key`."""


_log = structlog.get_logger()

_NAMES: Final = {
    ResultObject.SEGMENTATION: "SEG",
    ResultObject.PRESENTATION_STATE: "PR",
    ResultObject.PARAMETRIC_MAP: "PM",
    ResultObject.KEY_OBJECTS: "KO",
    ResultObject.PDF: "PDF",
}


@dataclass(frozen=True)
class ReportObject:
    """One DICOM object. `kind` is "SR", "SC", "SEG", "PR", "PM", "KO" or "PDF".

    Attributes:
        alternatives: The same content in other SOP classes; a peer gets only one of them all.
    """

    kind: str
    dataset: Dataset
    alternatives: tuple[ReportObject, ...] = ()

    @property
    def sop_class_uid(self) -> str:
        return str(self.dataset.SOPClassUID)

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @cached_property
    def encoded(self) -> bytes:
        """The object as a DICOM file (PS3.10)."""
        buffer = BytesIO()
        dcmwrite(buffer, self.dataset, enforce_file_format=True)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An object that could not be made of the source images, by its kind, and why not."""

    kind: str
    why: str


@dataclass(frozen=True)
class Report:
    """All objects of one job's findings, the SR first.

    Attributes:
        left_out: What the pipeline asks for and its source images do not allow (a broken
            window, no pixel spacing ...); never "SR" or "SC".
    """

    objects: tuple[ReportObject, ...]
    left_out: tuple[LeftOut, ...] = ()


def build_report(
    findings: Findings,
    sources: Sequence[Dataset],
    pictures: Pictures,
    spec: PipelineSpec,
    *,
    zone: tzinfo | None = None,
    replaces: Predecessor | None = None,
) -> Report:
    """Make the objects of a report; the same arguments always make the same bytes.

    Args:
        sources: Headers of (at least) the images that the findings refer to.
        pictures: What the reader displays of them, on the source grid; may lack some.
        spec: Gives the title, the Series Number (SR; the SC series has the next) and what else
            to make.
        zone: Zone of dates and times when the source states none; None: the machine's.
        replaces: The earlier report that this one replaces: it is another one then, with other
            UIDs, than one that replaces nothing.

    Raises:
        ReportError: An object could not be made or did not pass `check_object`.
    """
    if replaces is not None:
        said = replaces_in_words(replaces, findings.algorithm)
        findings = replace(findings, notes=(said, *findings.notes))
    origin = Origin(
        findings, Sources(findings, sources), spec.title, spec.series_number, zone, replaces
    )
    first = ReportObject("SR", build_sr(origin))
    forms = (other_form(origin, first.encoded, kind) for kind in OTHER_FORMS)
    objects = [replace(first, alternatives=tuple(ReportObject("SR", form) for form in forms))]
    volume = spec.input.kind is InputKind.VOLUME
    made = _compositions(origin, pictures, volume=volume)
    for number, (composition, images) in enumerate(made, start=1):
        objects.append(ReportObject("SC", build_sc(origin, composition, images, number)))
    left_out: list[LeftOut] = []
    shown = [item.dataset for item in objects if item.kind == "SC"]
    for kind in ResultObject:  # their order, whatever that of the pipeline's list
        if kind in spec.objects:
            try:
                more = list(_more(origin, kind, shown))
            except UnfitSourceError as error:
                left_out.append(LeftOut(_NAMES[kind], error.why))
                _log.warning("result_object_left_out", kind=_NAMES[kind], why=error.why)
                continue
            objects += [ReportObject(_NAMES[kind], made) for made in more]
    ours = [item.dataset for item in objects]
    for dataset in (*ours, *(other.dataset for item in objects for other in item.alternatives)):
        check_object(dataset, origin.sources.headers(), ours)
    return Report(tuple(objects), tuple(left_out))


def _more(origin: Origin, kind: ResultObject, shown: Sequence[Dataset]) -> Iterator[Dataset]:
    match kind:
        case ResultObject.SEGMENTATION:
            return build_segmentations(origin)
        case ResultObject.PRESENTATION_STATE:
            return build_presentation_states(origin)
        case ResultObject.PARAMETRIC_MAP:
            return build_parametric_maps(origin)
        case ResultObject.KEY_OBJECTS:
            return build_key_objects(origin, shown)
        case ResultObject.PDF:
            return build_pdf(origin, shown)


def _compositions(
    origin: Origin, pictures: Pictures, *, volume: bool
) -> Iterator[tuple[Composition, list[ImageReference]]]:
    """Each picture to send with the source images that it shows.

    A montage for each series of a volume pipeline, an overlay for each image of the others, a
    card of words when no picture could be read.
    """
    findings = origin.findings
    made = False
    for series in dict.fromkeys(image.series_instance_uid for image in origin.sources.images):
        images = [i for i in origin.sources.images if i.series_instance_uid == series]
        items = [item for item in findings.items if _shows(item, images)]
        if volume and items:
            stack = stack_of(images, pictures, origin.sources)
            if stack is not None:
                yield compose_montage(findings, items, stack), images
                made = True
            continue
        for image in images:
            about = [item for item in items if _shows(item, [image])]
            if about and image.key in pictures:
                yield compose_overlay(findings, about, pictures[image.key]), [image]
                made = True
    if not made:
        yield compose_card(findings), list(origin.sources.images)


def _shows(item: Finding, images: Sequence[ImageReference]) -> bool:
    keys = {image.key for image in images}
    return any(image.key in keys for image in item.subject.images)
