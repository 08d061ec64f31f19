"""Coded concepts as plain data, and the codes that more than one stage names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OWN_SCHEME: Final = "99DCMNODE"
"""Coding scheme designator of the codes that we define because no standard has them."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str

    def __str__(self) -> str:
        return f'({self.value}, {self.scheme}, "{self.meaning}")'


VOLUME: Final = Code("118565006", "SCT", "Volume")
MILLILITER: Final = Code("mL", "UCUM", "milliliter")
CERTAINTY_OF_FINDING: Final = Code("111012", "DCM", "Certainty of Finding")
PERCENT: Final = Code("%", "UCUM", "Percent")
NO_UNITS: Final = Code("1", "UCUM", "no units")
