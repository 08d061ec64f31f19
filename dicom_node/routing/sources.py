"""Where routing looks in a header, in what order of trust, and what it may show of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.model.text import codes_of, texts_of

_LONGEST_SHOWN: Final = 64
_HIDDEN_VR: Final = frozenset({"PN", "DA", "DT", "TM", "LT", "ST", "UT", "UN", "SQ", "OB", "OW"})
"""Names, dates and free text: an explanation never shows their values."""
_HIDDEN_GROUPS: Final = frozenset({0x0010, 0x0012, 0x0038, 0x0040})
"""Patient, clinical trial subject, visit and procedure step modules."""
_HIDDEN: Final = frozenset(
    {
        "AccessionNumber",
        "StudyID",
        "InstitutionName",
        "InstitutionAddress",
        "InstitutionalDepartmentName",
        "StationName",
        "DeviceSerialNumber",
        "ServiceEpisodeID",
        "RequestingService",
        "ReasonForStudy",
    }
)
_SHOWN: Final = frozenset(
    {"PerformedProcedureStepDescription", "ScheduledProcedureStepDescription"}
)


@dataclass(frozen=True, slots=True)
class Description:
    """A free text about the image.

    Attributes:
        of_study: It describes the whole study, so it may name more than this image shows.
    """

    keyword: str
    of_study: bool = False


IMAGE_DESCRIPTIONS: Final = (
    Description("ProtocolName"),
    Description("SeriesDescription"),
    Description("AcquisitionProtocolDescription"),
    Description("AcquisitionDeviceProcessingDescription"),
)
"""Texts about an image or its series, the more trusted first."""

DESCRIPTIONS: Final = (
    Description("ViewCodeSequence"),
    *IMAGE_DESCRIPTIONS,
    Description("PerformedProcedureStepDescription", of_study=True),
    Description("PerformedProtocolCodeSequence", of_study=True),
    Description("ScheduledProcedureStepDescription", of_study=True),
    Description("RequestedProcedureDescription", of_study=True),
    Description("RequestedProcedureCodeSequence", of_study=True),
    Description("ProcedureCodeSequence", of_study=True),
    Description("StudyDescription", of_study=True),
)
"""All texts that may name the anatomy: what is nearest to the image is trusted first."""


def described(
    attributes: Mapping[str, Any], sources: tuple[Description, ...] = DESCRIPTIONS
) -> Iterator[tuple[Description, str]]:
    """Yield the texts that are there, in order of trust; of a code its meaning."""
    for source in sources:
        value = attributes.get(source.keyword)
        meanings = [meaning for _, _, meaning in codes_of(value)]
        for text in meanings or texts_of(value):
            if text:
                yield source, text


@lru_cache(maxsize=512)
def where(keyword: str) -> str:
    """Name an attribute with its tag: "Modality (0008,0060)"."""
    tag = tag_for_keyword(keyword)
    return keyword if tag is None else f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


@lru_cache(maxsize=512)
def may_be_shown(keyword: str) -> bool:
    """Tell whether an explanation may show the attribute's value: nothing of the patient."""
    tag = tag_for_keyword(keyword)
    if tag is None or keyword in _HIDDEN:
        return False
    if keyword in _SHOWN:
        return True
    return tag >> 16 not in _HIDDEN_GROUPS and dictionary_VR(tag) not in _HIDDEN_VR


def shortened(text: str) -> str:
    """Cut a text to what fits into a line, without what would upset a terminal."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= _LONGEST_SHOWN else plain[: _LONGEST_SHOWN - 1] + "…"
