"""Which studies and series a backfill is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from dicom_node.errors import ConfigError
from dicom_node.model.conditions import values_in
from dicom_node.retrieve import FoundSeries
from dicom_node.routing.anatomy import anatomy_of
from dicom_node.routing.vocabulary import vocabulary


@dataclass(frozen=True, slots=True)
class Wanted:
    """Studies of some days with series of some modalities.

    Attributes:
        last: Included.
        modalities: In capital letters.
        regions: Names of the anatomy vocabulary; none: every part of the body.
    """

    first: date
    last: date
    modalities: Sequence[str]
    regions: frozenset[str] = frozenset()

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(n) for n in range((self.last - self.first).days + 1)]

    def why_not(self, series: FoundSeries) -> str:
        """Say why a series is not wanted; "" when it is, or when the peer does not tell."""
        if series.modality and series.modality not in self.modalities:
            return "another modality"
        shown = anatomy_of(series.attributes).named
        if self.regions and shown and not vocabulary().agree(shown, self.regions):
            return "another part of the body"
        return ""


def modalities_of(texts: Sequence[str]) -> list[str]:
    """Return modalities in capital letters.

    Raises:
        ConfigError: One of the texts is several: no series would meet it.
    """
    for text in texts:
        parts = values_in(text)
        if len(parts) > 1:
            several = " ".join(part.upper() for part in parts)
            fix = f"give --modality several times: {several}"
            raise ConfigError(f"--modality {text}", "it is no single modality", fix)
    return [text.strip().upper() for text in texts]


def regions_of(body_parts: Sequence[str]) -> frozenset[str]:
    """Return the regions that body parts are, as routes name them.

    Raises:
        ConfigError: The vocabulary knows one of them not.
    """
    found: set[str] = set()
    for text in body_parts:
        regions = vocabulary().of_body_part(text).regions
        if not regions:
            fix = vocabulary().mend_body_part(text)
            raise ConfigError(f"--body-part {text}", "the vocabulary does not know it", fix)
        found |= regions
    return frozenset(found)
