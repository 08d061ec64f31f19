"""Who may do what in the dashboard and the API."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a user may do; each may do all that those before it may.

    VIEWER: look, without patients' names and ids. OPERATOR: decide about studies: run again, send
    again, hold, release, discard. ADMIN: change routes and peers.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Tell whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is known.

    Attributes:
        role: Of a caller by token, that of the token.
    """

    id: int
    name: str
    role: Role
