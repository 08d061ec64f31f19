"""The side that an image states of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicom_node.model.findings import Side


def stated_side(attributes: Mapping[str, Any]) -> tuple[Side, str]:
    """Return the side by Image Laterality, else Laterality, and where it stood.

    UNKNOWN when neither says R or L: "B" (both) and "U" (unpaired) name no side.
    """
    for keyword, tag in (("ImageLaterality", "0020,0062"), ("Laterality", "0020,0060")):
        value = str(attributes.get(keyword) or "").strip().upper()
        if value in ("R", "L"):
            return Side(value), f"{keyword} ({tag})"
    return Side.UNKNOWN, ""
