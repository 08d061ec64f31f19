"""From a stack whose slices were moved (`tilt`) back onto the slices as they were sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dicom_node.inference.sources import Source
from dicom_node.inference.tilt import Shift
from dicom_node.inference.volume import part_of
from dicom_node.model.findings import Finding, ImageReference, Region

Box = tuple[int, int, int, int]


def box_as_sent(source: Source, image: ImageReference, box: Box | None) -> Box | None:
    """Bring a box (left, top, width, height) of a slice onto the slice as it was sent."""
    if box is None or not source.shifts:
        return box
    down, right = source.shifts[source.references.index(image)]
    return box[0] - right, box[1] - down, box[2], box[3]


def regions_as_sent(source: Source, found: Sequence[Finding]) -> list[Finding]:
    """Bring the masks among findings onto the slices as they were sent; the rest stays."""
    if not source.shifts:
        return list(found)
    shifts = dict(zip(source.references, source.shifts, strict=True))
    sent = source.pictures[source.references[0].key].shape
    return [
        _region(item, shifts, (sent[0], sent[1])) if isinstance(item, Region) else item
        for item in found
    ]


def _region(
    region: Region, shifts: Mapping[ImageReference, Shift], sent: tuple[int, int]
) -> Region:
    planes = zip(region.mask, region.subject.images, strict=True)
    mask = np.stack([part_of(plane, shifts[image], sent) for plane, image in planes])
    marked = region.marked
    if marked is not None:
        (left, top, width, height), image = marked
        down, right = shifts[image]
        marked = (left - right, top - down, width, height), image
    return replace(region, mask=mask, marked=marked)
