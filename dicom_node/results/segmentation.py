"""The regions as DICOM Segmentation: one for each series (PS3.3 A.51, BINARY)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_node.model.findings import ImageReference, Region, Subject
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.coded import concept
from dicom_node.results.derived import Plain, algorithm_sequence, identity, image_header, make
from dicom_node.results.drawing import SUBJECT_COLOURS
from dicom_node.results.groups import by_subject, tracking_uid_of
from dicom_node.results.origin import RESEARCH_ONLY, Origin

_KIND = ResultObject.SEGMENTATION


class _Segmentation(Plain, Segmentation):
    pass


def build_segmentations(origin: Origin) -> Iterator[Dataset]:
    """One Segmentation for each series that has regions, a segment for each region.

    A segment has the Tracking UID of its subject's measurement groups in the SR, and the colour
    in which our pictures show them.

    Raises:
        UnfitSourceError: The source images do not have what it needs.
    """
    regions = [
        (item, tracking_uid_of(origin, index, subject))
        for index, (subject, items) in enumerate(by_subject(origin.findings.items))
        for item in items
        if isinstance(item, Region) and item.mask.any()
    ]
    series = dict.fromkeys(
        image.series_instance_uid for region, _ in regions for image in region.subject.images
    )
    for number, uid in enumerate(series, start=1):
        images = _shown(uid, [region for region, _ in regions])
        about = [(r, t) for r, t in regions if r.subject.images[0].series_instance_uid == uid]
        yield make(origin, _KIND, partial(_build, origin, number, images, about))


def _shown(series_uid: str, regions: Sequence[Region]) -> list[ImageReference]:
    """The series' images on which a region lies, each once."""
    found = dict.fromkeys(
        image
        for region in regions
        for image, plane in zip(region.subject.images, _planes(region), strict=False)
        if image.series_instance_uid == series_uid and plane.any()
    )
    return list(found)


def _planes(region: Region) -> npt.NDArray[np.bool_]:
    return region.mask if region.mask.ndim == 3 else region.mask[None]


def _build(
    origin: Origin,
    number: int,
    images: Sequence[ImageReference],
    regions: Sequence[tuple[Region, str]],
) -> Segmentation:
    headers = [image_header(origin.sources[image]) for image in images]
    places = {image.key: index for index, image in enumerate(images)}
    shape = (len(images), *_planes(regions[0][0]).shape[1:], len(regions))
    pixels = np.zeros(shape, np.uint8)
    for segment, (region, _) in enumerate(regions):
        for image, plane in zip(region.subject.images, _planes(region), strict=False):
            if image.key in places:
                pixels[places[image.key], ..., segment] = plane
    return _Segmentation(
        source_images=headers,
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[
            _segment(origin, segment, region.subject, region, tracking)
            for segment, (region, tracking) in enumerate(regions, start=1)
        ],
        content_label="AI_REGIONS",
        content_description=RESEARCH_ONLY,
        **identity(origin, _KIND, number),
    )


def _segment(
    origin: Origin, number: int, subject: Subject, region: Region, tracking_uid: str
) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=subject.name[:64],
        segmented_property_category=(
            concept(region.category) if region.category else codes.SCT.AnatomicalStructure
        ),
        segmented_property_type=concept(region.label),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm_sequence(origin.findings.algorithm),
        tracking_uid=tracking_uid,
        tracking_id=subject.name,
        anatomic_regions=[concept(subject.anatomy)],
        display_color=CIELabColor.from_rgb(*SUBJECT_COLOURS[(number - 1) % len(SUBJECT_COLOURS)]),
    )
