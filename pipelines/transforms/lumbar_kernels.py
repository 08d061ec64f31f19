"""Which reconstruction kernels are too sharp for bone density, by the makers' names."""

from __future__ import annotations

import re
from typing import Final

_NAMED: Final = frozenset(
    {"BONE", "BONEPLUS", "EDGE", "LUNG", "ULTRA", "DETAIL", "SHARP", "YA", "YB", "YC", "YD", "E"}
)
"""GE's names, and Philips' letters from sharp upwards (D is its bone kernel's letter too)."""
_NUMBERED: Final = (
    # Siemens: B20 to B50 and Br, Bl, Bf … to 49 are soft to medium; U, T, H go by the same scale
    (re.compile(r"^[BHTUIJQ][A-Z]{0,2}(\d{2})"), 55),
    # Canon/Toshiba: FC01 to FC29 are body and head, FC30 and more bone, FC50 and more lung
    (re.compile(r"^FC(\d{2})"), 30),
)


def is_sharp(kernel: str) -> bool:
    """Tell whether Convolution Kernel (0018,1210) names an edge-enhancing reconstruction.

    A name that is not known is taken as fit: the noise shows in the uncertainty.
    """
    name = kernel.strip().upper()
    if name in _NAMED or name.split(" ")[0].rstrip("+") in _NAMED:
        return True
    for pattern, limit in _NUMBERED:
        found = pattern.match(name)
        if found:
            return int(found.group(1)) >= limit
    return False
