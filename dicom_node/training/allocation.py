"""Training and evaluation keep freed memory: the next batch needs blocks of the same sizes."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_TRIM_THRESHOLD: Final = (-1, 2**31 - 1)
"""Parameters of mallopt(3) with our values (glibc's malloc.h): the heap's end is not given back."""
_TOP_PAD: Final = (-2, 64 * 1024 * 1024)
"""It grows in large steps."""
_MMAP_MAX: Final = (-4, 0)
"""No block, however large, is a mapping of its own, which would go back when it is freed."""


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; nothing changes where the environment tells it how.

    By default blocks of more than 32 MB, which the layers of a batch need by the dozen, go back to
    the system each time, and come again as pages that it has to clear.

    Returns:
        Whether it keeps it from now on; False with a C library other than glibc, too.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = [mallopt(*setting) for setting in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX)]
    return all(taken)
