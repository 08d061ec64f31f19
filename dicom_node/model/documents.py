"""The SOP classes in which a report's SR is made; a peer gets it in one of them."""

from __future__ import annotations

from enum import StrEnum

from pydicom.uid import BasicTextSRStorage, ComprehensiveSRStorage, EnhancedSRStorage


class DocumentClass(StrEnum):
    """SOP classes of structured reports, from the richest to the plainest."""

    COMPREHENSIVE = "comprehensive"
    ENHANCED = "enhanced"
    BASIC_TEXT = "basic_text"

    @property
    def uid(self) -> str:
        return _UIDS[self]


_UIDS = {
    DocumentClass.COMPREHENSIVE: str(ComprehensiveSRStorage),
    DocumentClass.ENHANCED: str(EnhancedSRStorage),
    DocumentClass.BASIC_TEXT: str(BasicTextSRStorage),
}
