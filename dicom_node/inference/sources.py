"""The images of a job as a pipeline takes them: one radiograph, or one series, at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.errors import ImageError
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.radiograph import Radiograph, read_radiograph
from dicom_node.inference.volume import UnfitVolumeError, Volume, read_volume, windowed
from dicom_node.model import own_codes
from dicom_node.model.findings import ImageReference
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.targets import Rejection


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One image or volume, or the reason why there is none.

    Attributes:
        values: float32 [H, W] in 0..1, or [H, W, D] in HU; None when it could not be read.
        affine: Of a volume.
        label: Tells it from the job's other images; "" when it is the only one.
    """

    references: tuple[ImageReference, ...]
    attributes: Mapping[str, Any]
    label: str = ""
    values: npt.NDArray[np.float32] | None = None
    affine: npt.NDArray[np.float64] | None = None
    rejection: Rejection | None = None

    def pictures(self) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """Yield what is shown of each image, uint8 [H, W], by the reference's key."""
        if self.values is None:
            return
        if self.values.ndim == 2:
            yield self.references[0].key, np.round(self.values * 255).astype(np.uint8)
            return
        for number, reference in enumerate(self.references):
            yield reference.key, windowed(self.values[:, :, number])


def radiographs_of(job: JobInput) -> Iterator[Source]:
    """Yield each image, or the reason why it cannot be read."""
    several = len(job.files) > 1
    for number, (file, facts) in enumerate(zip(job.files, job.facts, strict=True), start=1):
        label = f"image {number}" if several else ""
        try:
            images: list[Radiograph] = read_radiograph(_read(file))
        except ImageError as error:
            yield Source((_reference(facts),), facts.attributes, label, rejection=_unread(error))
            continue
        for image in images:
            frame = f" frame {image.reference.frame}" if image.reference.frame else ""
            yield Source(
                (image.reference,),
                facts.attributes,
                f"{label}{frame}".strip(),
                image.pixels,
            )


def volumes_of(job: JobInput) -> Iterator[Source]:
    """Yield each series as a volume, or the reason why it makes none."""
    series: dict[str, list[int]] = {}
    for number, facts in enumerate(job.facts):
        series.setdefault(facts.series_instance_uid, []).append(number)
    for count, numbers in enumerate(series.values(), start=1):
        members = [job.facts[n] for n in numbers]
        label = f"series {count}" if len(series) > 1 else ""
        references = tuple(map(_reference, members))
        attributes = members[0].attributes
        if job.rejection is not None:
            yield Source(references, attributes, label, rejection=job.rejection)
            continue
        try:
            volume: Volume = read_volume([_read(job.files[n]) for n in numbers])
        except UnfitVolumeError as error:
            why = Rejection(error.reason, f"{error.why}")
            yield Source(references, attributes, label, rejection=why)
            continue
        except ImageError as error:
            yield Source(references, attributes, label, rejection=_unread(error))
            continue
        yield Source(
            volume.references,
            attributes,
            label,
            volume.values,
            volume.affine,
        )


def _read(file: Path) -> Dataset:
    try:
        return dcmread(file)
    except (OSError, InvalidDicomError) as error:
        raise ImageError(
            f"file {file.name}", f"it cannot be read: {type(error).__name__}", "send it again"
        ) from None


def _reference(facts: InstanceFacts) -> ImageReference:
    return ImageReference(facts.sop_class_uid, facts.sop_instance_uid, facts.series_instance_uid)


def _unread(error: ImageError) -> Rejection:
    return Rejection(own_codes.UNREADABLE, error.why)
