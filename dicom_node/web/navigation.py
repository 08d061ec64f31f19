"""The entries at the top of every page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicom_node.model.access import Role


@dataclass(frozen=True, slots=True)
class Entry:
    """A link; `role` is the least that may follow it."""

    text: str
    path: str
    role: Role = Role.VIEWER

    def is_here(self, path: str) -> bool:
        """Tell whether a path belongs to this entry."""
        return path == self.path or (self.path != "/" and path.startswith(f"{self.path}/"))


NAVIGATION: Final = (
    Entry("Now", "/"),
    Entry("Studies", "/studies"),
    Entry("Routes", "/routes"),
    Entry("Peers", "/peers"),
    Entry("Pipelines", "/pipelines"),
)
