"""Which view an image is, by View Position or View Code Sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dicom_node.routing.anatomy import normalised

UNKNOWN: Final = "UNKNOWN"

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "AP": ("ap", "a p", "anteroposterior", "antero posterior", "anterior posterior", "ap wb"),
    "PA": ("pa", "p a", "posteroanterior", "postero anterior", "posterior anterior"),
    "LATERAL": ("lateral", "lat", "ll", "rl", "lm", "ml", "lld", "rld", "latero medial"),
    "OBLIQUE": ("oblique", "obl", "rao", "lao", "rpo", "lpo", "lao rao"),
    "AXIAL": ("axial", "ax", "sunrise", "skyline", "merchant", "tangential"),
    "FROG": ("frog", "frog leg", "frogleg", "lauenstein", "dunn"),
}
_CODES: Final[Mapping[tuple[str, str], str]] = {
    ("SCT", "399348003"): "AP",
    ("SRT", "R-10206"): "AP",
    ("SCT", "272479007"): "PA",
    ("SRT", "R-10214"): "PA",
    ("SRT", "R-40888"): "PA",
    ("SCT", "399067008"): "LATERAL",
    ("SRT", "R-102CD"): "LATERAL",
    ("SCT", "399352003"): "LATERAL",
    ("SRT", "R-10228"): "LATERAL",
    ("SCT", "399260004"): "LATERAL",
    ("SRT", "R-10224"): "LATERAL",
    ("SCT", "399173006"): "LATERAL",
    ("SCT", "399198007"): "LATERAL",
    ("SRT", "R-10232"): "LATERAL",
    ("SCT", "399182000"): "OBLIQUE",
    ("SCT", "399061009"): "AXIAL",
}
"""View codes of PS3.16 CID 4010 and CID 4011."""


def view_of(attributes: Mapping[str, Any]) -> tuple[str, str]:
    """Return the view ("AP", "LATERAL" …; as sent when it is another) and where it stood.

    UNKNOWN when no attribute tells.
    """
    position = str(attributes.get("ViewPosition") or "")
    if position.strip():
        return named(position), "ViewPosition (0018,5101)"
    for code in attributes.get("ViewCodeSequence") or ():
        if not isinstance(code, Mapping):
            continue
        scheme = "SRT" if code.get("scheme") in ("SRT", "SNM3") else str(code.get("scheme"))
        known = _CODES.get((scheme, str(code.get("value"))))
        return known or named(str(code.get("meaning", ""))), "ViewCodeSequence (0054,0220)"
    return UNKNOWN, ""


def named(text: str) -> str:
    """Return the view that a text names, or the text itself in capitals."""
    plain = normalised(text)
    for view, names in _NAMES.items():
        if plain in names:
            return view
    return plain.upper() or UNKNOWN
