"""Whether an image was taken with a contrast agent, as its header has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dicom_node.model.text import codes_of, folded, texts_of

CONTRAST: Final = (
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusStartTime",
    "ContrastBolusVolume",
)
"""Attributes that tell of contrast; enhanced images have the agent in the sequence alone."""
_NO_CONTRAST: Final = frozenset(
    {"", "none", "no", "n", "0", "0 0", "na", "n a", "nil", "null", "false", "not applicable"}
    | {"without", "no contrast", "non contrast", "noncontrast", "without contrast", "unenhanced"}
    | {"wo", "w o", "wo contrast", "w o contrast", "no iv contrast", "plain", "nativ", "native"}
    | {"nein", "ohne", "ohne km", "ohne kontrastmittel", "sans", "sans injection", "non"}
    | {"sin", "sin contraste", "senza", "senza mdc", "senza contrasto", "sem contraste", "zonder"}
)
"""What scanners and technologists write into the agent's name when none was given."""


def contrast_given(attributes: Mapping[str, Any]) -> str | None:
    """Return the keyword of the attribute that says that contrast was given; None: none does."""
    for keyword in CONTRAST:
        value = attributes.get(keyword)
        texts = [meaning for _, _, meaning in codes_of(value)] or texts_of(value)
        if any(folded(text) not in _NO_CONTRAST for text in texts):
            return keyword
    return None
