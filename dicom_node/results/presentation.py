"""Boxes, outlines and words over the source image, to be switched on and off in the viewer.

Grayscale Softcopy Presentation State (PS3.3 A.33.1). Coordinates in pixels, the first pixel from
0 to 1 (PS3.3 C.10.5.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from typing import Final

import numpy as np
import numpy.typing as npt
from highdicom import PresentationLUTTransformation
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom.dataset import Dataset
from skimage.measure import find_contours

from dicom_node.model.findings import Finding, ImageReference, Region, Subject
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.body_part import set_body_part
from dicom_node.results.captions import headline
from dicom_node.results.derived import Plain, identity, image_header, make
from dicom_node.results.groups import by_subject
from dicom_node.results.headers import numbers, text_of
from dicom_node.results.origin import RESEARCH_ONLY, Origin, restrictions

_KIND = ResultObject.PRESENTATION_STATE
_LAYER: Final = GraphicLayer("AI_RESULT", 1, "AI result, research use only")
_FOOT: Final = (0.0, 0.94, 1.0, 1.0)
_FEW: Final = 4
"""A subject of more images than this is a series; its words belong on none of them."""

_ALIKE: Final = ("Rows", "Columns", "RescaleType", "PhotometricInterpretation")
_PIXEL_SIZES: Final = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "PixelAspectRatio",
)
"""Attributes that tell a pixel's shape, its height first; the first that is there counts."""

_FINEST_RATIO: Final = 1000
_SMOOTHING: Final = 0.5
"""Pixels by which an outline may leave the region's border."""

Corners = tuple[int, int, int, int]
Outlines = Mapping[str, Sequence[npt.NDArray[np.float64]]]


class _State(Plain, GrayscaleSoftcopyPresentationState):
    pass


def build_presentation_states(origin: Origin) -> Iterator[Dataset]:
    """One state for each series' images that have findings and are displayed alike.

    Alike are size, rescaling, photometric interpretation and the shape of the pixels: a state
    says each of these once for all its images. Images of several frames have none: highdicom
    makes a state of enhanced ones only.

    Raises:
        UnfitSourceError: The source images do not have what it needs.
    """
    groups: dict[tuple[object, ...], list[ImageReference]] = {}
    for image in _marked(origin):
        header = origin.sources[image]
        alike = [text_of(header, keyword) for keyword in _ALIKE]
        alike += [str(numbers(header, k, 1)) for k in ("RescaleSlope", "RescaleIntercept")]
        alike.append(str(_pixel_ratio(header)))
        groups.setdefault((image.series_instance_uid, *alike), []).append(image)
    for number, images in enumerate(groups.values(), start=1):
        state = make(origin, _KIND, partial(_build, origin, number, images))
        set_body_part(origin, origin.sources[images[0]], state)
        yield state


def _marked(origin: Origin) -> list[ImageReference]:
    """Images of one frame with something to draw or to say, in their order."""
    return [
        image
        for image in origin.sources.images
        if image.frame is None
        and (numbers(origin.sources[image], "NumberOfFrames", 1) or (1,))[0] == 1
        and any(_shows(items, image) for _, items in by_subject(origin.findings.items))
    ]


def _shows(items: Sequence[Finding], image: ImageReference) -> bool:
    """Whether a subject's box, region or words belong on an image."""
    regions = [item for item in items if isinstance(item, Region)]
    if regions:
        return any(image.key in _outlines(region) for region in regions)
    subject = items[0].subject
    return image in subject.images and len(subject.images) <= _FEW


def _build(
    origin: Origin, number: int, images: Sequence[ImageReference]
) -> GrayscaleSoftcopyPresentationState:
    headers = {image.key: image_header(origin.sources[image]) for image in images}
    first = origin.sources[images[0]]
    inverse = text_of(first, "PhotometricInterpretation") == "MONOCHROME1"
    state = _State(
        referenced_images=list(headers.values()),
        content_label="AI_RESULT",
        content_description=RESEARCH_ONLY,
        graphic_layers=[_LAYER],
        graphic_annotations=[
            GraphicAnnotation(
                referenced_images=[headers[image.key]],
                graphic_layer=_LAYER,
                graphic_objects=list(_graphics(origin, image)) or None,
                text_objects=list(_texts(origin, image)),
            )
            for image in images
        ],
        presentation_lut_transformation=PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if inverse else "IDENTITY"
        ),
        **identity(origin, _KIND, number),
    )
    # highdicom writes 1:1, and the image's own spacing does not count under a state
    for area in state.DisplayedAreaSelectionSequence:
        area.PresentationPixelAspectRatio = list(_pixel_ratio(first))
    return state


def _pixel_ratio(header: Dataset) -> tuple[int, int]:
    """Height and width of a pixel as whole numbers (PS3.3 C.10.4); (1, 1) where none is stated."""
    for keyword in _PIXEL_SIZES:
        size = numbers(header, keyword, 2)
        if size is not None and min(size) > 0:
            ratio = Fraction(size[0] / size[1]).limit_denominator(_FINEST_RATIO)
            return (ratio.numerator, ratio.denominator) if ratio else (1, 1)
    return 1, 1


def _graphics(origin: Origin, image: ImageReference) -> Iterator[GraphicObject]:
    for subject, items in by_subject(origin.findings.items):
        if (box := _box(origin, subject, image)) is not None:
            left, top, right, bottom = box
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            yield _line(np.array(corners, np.float64))
        for item in items:
            # of a detector's box in a radiograph the subject's own box is drawn
            if isinstance(item, Region) and not (item.marked and subject.box):
                for outline in _outlines(item).get(image.key, ()):
                    yield _line(outline)


def _box(origin: Origin, subject: Subject, image: ImageReference) -> Corners | None:
    """Where a subject's box is drawn in an image: only in its first one."""
    header = origin.sources[image]
    size = int(header.Columns), int(header.Rows)
    return subject.corners(*size) if image == subject.images[0] else None


def _line(points: npt.NDArray[np.float64]) -> GraphicObject:
    return GraphicObject("POLYLINE", points, "PIXEL")


def _texts(origin: Origin, image: ImageReference) -> Iterator[TextObject]:
    places = 0
    for subject, items in by_subject(origin.findings.items):
        if not _shows(items, image):
            continue
        text = f"{subject.name}: {headline(items)}"[:200]
        place = _place(_box(origin, subject, image), items, image)
        if place is None:
            top = 0.02 + 0.05 * places
            places += 1
            yield TextObject(text, "DISPLAY", (0.0, top, 1.0, top + 0.04), None, "LEFT")
        else:
            yield TextObject(text, "PIXEL", anchor_point=place, anchor_point_visible=False)
    foot = ". ".join(restrictions(origin.findings.algorithm))
    yield TextObject(foot, "DISPLAY", bounding_box=_FOOT)


def _place(
    box: Corners | None, items: Sequence[Finding], image: ImageReference
) -> tuple[float, float] | None:
    """Where the words begin: the upper left corner of the box or of the outlines."""
    if box is not None:
        return float(box[0]), float(box[1])
    points = [
        outline
        for item in items
        if isinstance(item, Region)
        for outline in _outlines(item).get(image.key, ())
    ]
    if not points:
        return None
    left, top = np.concatenate(points).min(axis=0)
    return float(left), float(top)


@lru_cache(maxsize=64)
def _outlines(region: Region) -> Outlines:
    """Closed outlines, [points, (column, row)], of a region by the key of their image."""
    # brings scipy.signal, most of a second of a worker's start; only outlines need it
    from skimage.measure import approximate_polygon

    planes = region.mask if region.mask.ndim == 3 else region.mask[None]
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for image, plane in zip(region.subject.images, planes, strict=False):
        if plane.any():
            # a pixel's centre is at +0.5 in the state's coordinates; the border ring is air
            contours = find_contours(np.pad(plane, 1).astype(np.float64), 0.5)
            found[image.key] = [
                np.clip(approximate_polygon(c, _SMOOTHING)[:, ::-1] - 0.5, 0, None)
                for c in contours
            ]
    return found
