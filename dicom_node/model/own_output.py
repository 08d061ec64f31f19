"""What marks an object as ours: the results stage writes it, routing never analyses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

OWN_MANUFACTURER: Final = "dicom-node"
OWN_MODEL_NAME: Final = "dicom-node"
"""Manufacturer and Manufacturer's Model Name (General Equipment) of every object we make.

The General Equipment is the node, which made the object; the algorithm, which may be another
maker's, stands in the Contributing Equipment Sequence and in the SR's content.
"""


def is_own_output(attributes: Mapping[str, Any]) -> bool:
    """Tell whether an instance was made by a dicom-node (this one or another).

    Args:
        attributes: Plain values by keyword, as `model.instances.attributes_of` gives them.
    """
    name = str(attributes.get("ManufacturerModelName", "")).strip().lower()
    return name == OWN_MODEL_NAME
