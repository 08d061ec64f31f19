"""The images of a job as a pipeline takes them: one radiograph, or one series, at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog

from dicom_node.errors import ImageError
from dicom_node.inference.files import DicomFile, read_file, read_header
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.planes import planes_of
from dicom_node.inference.radiograph import Radiograph, read_radiograph
from dicom_node.inference.stack import UnfitVolumeError, stack_of
from dicom_node.inference.tilt import Shift
from dicom_node.inference.volume import read_volume
from dicom_node.model import own_codes
from dicom_node.model.findings import ImageReference
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.pipeline import InputKind
from dicom_node.model.targets import Rejection, SeriesCandidate, SeriesChoice

_log = structlog.get_logger()

Pictures = dict[str, npt.NDArray[np.uint8]]

_TRIED_FOR_A_PICTURE: Final = 3
_AXIAL: Final = 0.7
"""Cosine between the slices' normal and the body's axis."""

Choose = Callable[[Sequence[SeriesCandidate]], SeriesChoice | None]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One image or volume, or the reason why there is none.

    Attributes:
        label: Tells it from the job's other images; "" when it is the only one.
        values: float32 [H, W] in 0..1, or float32 or int16 [H, W, D] in HU; None when there is a
            `rejection`.
        affine: Of a volume, voxel index to RAS mm.
        spacing: (row, column) in mm, None when not known.
        pictures: What is shown, uint8 [H, W], by the reference's key; of a rejected volume the
            middle slice only.
        notes: What the reader should know of how it was read.
        shifts: Of a volume, how each slice was moved against its picture; empty: none was.
    """

    references: tuple[ImageReference, ...]
    attributes: Mapping[str, Any]
    label: str = ""
    values: npt.NDArray[np.float32] | npt.NDArray[np.int16] | None = None
    affine: npt.NDArray[np.float64] | None = None
    spacing: tuple[float, float] | None = None
    pictures: Pictures = field(default_factory=dict)
    rejection: Rejection | None = None
    notes: tuple[str, ...] = ()
    shifts: tuple[Shift, ...] = ()


@dataclass(frozen=True, slots=True)
class _Member:
    """One file of a job with its facts; ordered by the scanner's numbering, then UID."""

    file: DicomFile
    facts: InstanceFacts

    @property
    def order(self) -> tuple[float, str, float, str]:
        return (
            _count(self.facts, "SeriesNumber"),
            self.facts.series_instance_uid,
            _count(self.facts, "InstanceNumber"),
            self.facts.sop_instance_uid,
        )

    @property
    def reference(self) -> ImageReference:
        return _reference(self.facts)


def sources_of(job: JobInput, kind: InputKind, choose: Choose | None = None) -> Iterator[Source]:
    """Yield a job's images one at a time, in an order that does not depend on their arrival.

    Of several series `choose` may pick the one that is read; the choice is noted for the reader.

    A job that routing rejected yields one source, which says so, with a picture if one can be
    made. Pixels that cannot be read make a source with a rejection, not an error.
    """
    members = _members(job)
    if job.rejection is not None:
        yield _rejected(members, job.rejection, kind)
    elif kind is InputKind.VOLUME:
        yield from _volumes(members, choose)
    else:
        yield from _radiographs(members)


def considered(job: JobInput) -> tuple[ImageReference, ...]:
    """Return references to all images that routing looked at."""
    return tuple(member.reference for member in _members(job))


def _members(job: JobInput) -> list[_Member]:
    return sorted(map(_Member, job.files, job.facts), key=lambda member: member.order)


def _radiographs(members: Sequence[_Member]) -> Iterator[Source]:
    for number, member in enumerate(members, start=1):
        label = f"image {number}" if len(members) > 1 else ""
        attributes = member.facts.attributes
        try:
            images = read_radiograph(read_file(member.file))
        except ImageError as error:
            yield Source((member.reference,), attributes, label, rejection=_unreadable(error))
            continue
        for image in images:
            frame = image.reference.frame
            yield Source(
                (image.reference,),
                attributes,
                f"{label} frame {frame}".strip() if frame else label,
                image.pixels,
                spacing=image.spacing,
                pictures={image.reference.key: image.picture},
            )


def _volumes(members: Sequence[_Member], choose: Choose | None) -> Iterator[Source]:
    by_uid: dict[str, list[_Member]] = {}
    for member in members:
        by_uid.setdefault(member.facts.series_instance_uid, []).append(member)
    series = list(by_uid.values())
    choice = None
    if choose is not None and len(series) > 1:
        choice = choose([_candidate(found) for found in series])
    if choice is not None:
        source = _volume(series[choice.index], "")
        yield replace(source, notes=(choice.why, *source.notes))
        return
    for number, found in enumerate(series, start=1):
        yield _volume(found, f"series {number}" if len(series) > 1 else "")


def _candidate(members: Sequence[_Member]) -> SeriesCandidate:
    attributes = members[0].facts.attributes
    try:
        stack = stack_of(planes_of(read_header(member.file) for member in members))
    except ImageError as error:
        return SeriesCandidate(attributes, len(members), error.why)
    return SeriesCandidate(
        attributes,
        len(stack.planes),
        None,
        stack.step,
        stack.step * len(stack.planes),
        bool(abs(stack.planes[0].normal[2]) > _AXIAL),
    )


def _volume(members: Sequence[_Member], label: str) -> Source:
    try:
        volume = read_volume([member.file for member in members])
    except UnfitVolumeError as error:
        return _rejected(members, Rejection(error.reason, error.why), InputKind.VOLUME, label)
    except ImageError as error:
        return _rejected(members, _unreadable(error), InputKind.VOLUME, label)
    attributes = {m.facts.sop_instance_uid: m.facts.attributes for m in members}
    return Source(
        volume.references,
        attributes.get(volume.references[0].sop_instance_uid, members[0].facts.attributes),
        label,
        volume.values,
        volume.affine,
        volume.spacing[:2],
        dict(zip((r.key for r in volume.references), volume.pictures, strict=True)),
        notes=volume.notes,
        shifts=volume.shifts,
    )


def _rejected(
    members: Sequence[_Member], why: Rejection, kind: InputKind, label: str = ""
) -> Source:
    """Make a source that is not evaluated, with the picture of one of its images.

    Radiographs: the first that can be read stands for all. A series: all its images, of which
    the middle one is shown.
    """
    volume = kind is InputKind.VOLUME
    middle = len(members) // 2 if volume else 0
    candidates = [*members[middle:], *members[:middle]][:_TRIED_FOR_A_PICTURE]
    shown, pictures = candidates[0], Pictures()
    for candidate in candidates:
        try:
            images: list[Radiograph] = read_radiograph(read_file(candidate.file))
        except ImageError as error:
            _log.info("no_picture", what=error.what, why=error.why)
            continue
        image = images[len(images) // 2]
        # the frame of a multi-frame image stands for the whole of it
        shown, pictures = candidate, {candidate.reference.key: image.picture}
        break
    references = tuple(m.reference for m in members) if volume else (shown.reference,)
    return Source(references, shown.facts.attributes, label, pictures=pictures, rejection=why)


def _reference(facts: InstanceFacts) -> ImageReference:
    return ImageReference(facts.sop_class_uid, facts.sop_instance_uid, facts.series_instance_uid)


def _unreadable(error: ImageError) -> Rejection:
    return Rejection(own_codes.UNREADABLE, error.why)


def _count(facts: InstanceFacts, keyword: str) -> float:
    value = facts.attributes.get(keyword)
    return float(value) if isinstance(value, int | float) else 0.0
