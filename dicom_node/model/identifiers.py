"""UIDs: what is a valid one, and how ours are derived so that a retry makes the same."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Final

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_NAMESPACE: Final = uuid.UUID("8c1f6f2e-4f0e-5b4e-9f0a-3b7a1d2c9e55")


def is_valid_uid(value: str) -> bool:
    """Tell whether `value` is a UID (PS3.5 section 9.1: at most 64 characters, no leading 0)."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def derived_uid(*parts: str | Iterable[str]) -> str:
    """Derive a UID from texts: the same texts always give the same UID.

    A name-based UUID under root 2.25 (PS3.5 annex B.2). Parts are kept apart, so that
    ("ab", "c") and ("a", "bc") differ.
    """
    flat: list[str] = []
    for part in parts:
        flat.extend([part] if isinstance(part, str) else [*part, ""])
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(31).join(flat)).int}"
