"""The images that matter: a Key Object Selection (PS3.3 A.35.4, TID 2010)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_node.model.findings import (
    Classification,
    Finding,
    ImageReference,
    Measurement,
    Region,
    Saliency,
)
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.derived import Plain, identity, image_header, make
from dicom_node.results.groups import by_subject
from dicom_node.results.observer import device_observer
from dicom_node.results.origin import Origin, restrictions

_KIND = ResultObject.KEY_OBJECTS


class _Selection(Plain, KeyObjectSelectionDocument):
    pass


def build_key_objects(origin: Origin, pictures: Sequence[Dataset]) -> Iterator[Dataset]:
    """One selection: our pictures, and of each evaluated subject the image that shows it best.

    None when nothing was evaluated.

    Args:
        pictures: The secondary captures of the same report.

    Raises:
        UnfitSourceError: The source images do not have what it needs.
    """
    images = key_images(origin)
    if images:
        headers = [image_header(origin.sources[image]) for image in images]
        headers += [image_header(picture) for picture in pictures]
        yield make(origin, _KIND, partial(_build, origin, headers))


def key_images(origin: Origin) -> list[ImageReference]:
    """Of each evaluated subject the image of its saliency, its largest region, or its middle."""
    found = [
        _best(items)
        for _, items in by_subject(origin.findings.items)
        if any(isinstance(item, Classification | Measurement) for item in items)
    ]
    # a selection names instances, not frames
    return list({image.sop_instance_uid: image for image in found}.values())


def _best(items: Sequence[Finding]) -> ImageReference:
    for item in items:
        if isinstance(item, Saliency):
            return item.image
    for item in items:
        if isinstance(item, Region) and item.mask.any():
            planes = item.mask if item.mask.ndim == 3 else item.mask[None]
            return item.subject.images[int(planes.sum(axis=(1, 2)).argmax())]
    images = items[0].subject.images
    return images[len(images) // 2]


def _build(origin: Origin, headers: Sequence[Dataset]) -> KeyObjectSelectionDocument:
    arguments = identity(origin, _KIND, 1)
    del arguments["device_serial_number"]
    words = [origin.findings.statement, *restrictions(origin.findings.algorithm)]
    return _Selection(
        evidence=headers,
        content=KeyObjectSelection(
            document_title=codes.DCM.OfInterest,
            referenced_objects=headers,
            observer_device_context=device_observer(origin.findings.algorithm),
            description=" ".join(word for word in words if word),
        ),
        **arguments,
    )
