"""The saliency as numbers: one Parametric Map for each map (PS3.3 A.75).

16 bits, 0 to 65535 for 0 to 1 (Real World Value Mapping): half the size of floats. Only for images
with a place in a frame of reference, which the IOD asks for: slices, not radiographs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_node.model.findings import Saliency
from dicom_node.model.own_codes import SALIENCY
from dicom_node.model.pipeline import ResultObject
from dicom_node.results.body_part import set_body_part
from dicom_node.results.coded import concept
from dicom_node.results.derived import Plain, identity, image_header, make
from dicom_node.results.headers import numbers, text_of
from dicom_node.results.origin import RESEARCH_ONLY, Origin

_KIND = ResultObject.PARAMETRIC_MAP
_TOP = 65535


class _Map(Plain, ParametricMap):
    pass


def build_parametric_maps(origin: Origin) -> Iterator[Dataset]:
    """One map for each saliency, on the grid of its image; none for an image without a place.

    Raises:
        UnfitSourceError: The source images do not have what it needs.
    """
    maps = [
        item
        for item in origin.findings.items
        if isinstance(item, Saliency) and _placed(origin.sources[item.image])
    ]
    for number, item in enumerate(maps, start=1):
        made = make(origin, _KIND, partial(_build, origin, number, item))
        set_body_part(origin, origin.sources[item.image], made)
        yield made


def _placed(header: Dataset) -> bool:
    return all(
        (text_of(header, "FrameOfReferenceUID"), numbers(header, "ImagePositionPatient", 3))
    ) and bool(numbers(header, "ImageOrientationPatient", 6))


def _build(origin: Origin, number: int, item: Saliency) -> ParametricMap:
    values = (np.clip(item.map, 0, 1) * _TOP).round().astype(np.uint16)
    return _Map(
        source_images=[image_header(origin.sources[item.image])],
        pixel_array=values[None],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label="saliency",
                lut_explanation=f"{item.method}: {item.target}"[:64],
                unit=codes.UCUM.NoUnits,
                value_range=(0, _TOP),
                slope=1 / _TOP,
                intercept=0.0,
                quantity_definition=concept(SALIENCY),
            )
        ],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="AI_SALIENCY",
        content_description=RESEARCH_ONLY,
        derived_pixel_contrast="NONE",
        **identity(origin, _KIND, number),
    )
