"""Body part and side of a result's series (PS3.3 C.7.3.1)."""

from __future__ import annotations

import re
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.model.findings import Side
from dicom_node.results.headers import text_of
from dicom_node.results.origin import Origin

_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_UNPAIRED: Final = frozenset(
    {
        "ABDOMEN",
        "CHEST",
        "COCCYX",
        "CSPINE",
        "HEAD",
        "HEART",
        "LIVER",
        "LSPINE",
        "NECK",
        "PELVIS",
        "SKULL",
        "SPINE",
        "SSPINE",
        "STERNUM",
        "TSPINE",
    }
)
"""Of the terms of PS3.16 Annex L that a pipeline may meet."""


def set_body_part(origin: Origin, source: Dataset, image: Dataset) -> None:
    """Body Part Examined of the source, for hanging, and Laterality (PS3.3 C.7.3.1, type 2C).

    Laterality is one for the series: R or L when all subjects lie on that side; absent when
    the body part is known to be unpaired; else empty, which is also what "both sides" must be.
    """
    part = text_of(source, "BodyPartExamined")
    if _CODE_STRING.fullmatch(part):
        image.BodyPartExamined = part
    sides = {item.subject.side for item in origin.findings.items}
    if sides in ({Side.RIGHT}, {Side.LEFT}):
        image.Laterality = sides.pop().value
    elif sides != {Side.NONE} or part not in _UNPAIRED:
        image.Laterality = None
