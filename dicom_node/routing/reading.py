"""What an instance is and shows, read from its header once for all conditions of all routes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from pydicom.uid import UID

from dicom_node.model.instances import InstanceFacts
from dicom_node.model.own_output import is_own_output
from dicom_node.routing import anatomy, laterality, views
from dicom_node.routing.sources import shortened

NO_IMAGE: Final = frozenset(
    {"SR", "PR", "KO", "DOC", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "SEG", "AU", "ECG", "PLAN"}
)
"""Modalities of objects that are no acquired image."""
READS: Final = tuple(
    sorted({*anatomy.READS, *views.READS, *laterality.READS, "Modality", "ManufacturerModelName"})
)
"""Keywords of the attributes that a reading depends on, besides the presence of Rows."""


class Reading:
    """The anatomy, view and side of a header; each is looked for when it is first asked."""

    def __init__(self, attributes: Mapping[str, Any], sop_class_uid: str) -> None:
        self._attributes = attributes
        self._sop_class_uid = sop_class_uid

    @cached_property
    def excluded(self) -> str:
        """Why the instance is never routed, whatever the conditions; "" for an image."""
        if is_own_output(self._attributes):
            return "made by a dicom-node: our own output is never analysed"
        modality = str(self._attributes.get("Modality", "")).upper()
        if modality in NO_IMAGE or "Rows" not in self._attributes:
            name = shortened(UID(self._sop_class_uid).name)
            return f"no image ({name or 'SOP class not given'})"
        return ""

    @cached_property
    def anatomy(self) -> anatomy.Anatomy:
        return anatomy.anatomy_of(self._attributes)

    @cached_property
    def view(self) -> views.View:
        return views.view_of(self._attributes)

    @cached_property
    def laterality(self) -> laterality.Laterality:
        return laterality.laterality_of(self._attributes)


class Readings:
    """The readings of a study, whose facts must outlive them; the slices of a series share one."""

    def __init__(self) -> None:
        self._of_instance: dict[int, Reading] = {}
        self._of_likeness: dict[tuple[object, ...], Reading] = {}

    def of(self, item: InstanceFacts) -> Reading:
        """Return an instance's reading: the same object where nothing that counts differs."""
        known = self._of_instance.get(id(item))
        if known is not None:
            return known
        have = item.attributes
        values = (repr(have[name]) if name in have else None for name in READS)
        key = (item.sop_class_uid, "Rows" in have, *values)
        reading = self._of_likeness.setdefault(key, Reading(have, item.sop_class_uid))
        self._of_instance[id(item)] = reading
        return reading
