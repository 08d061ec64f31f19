"""Memory that is freed stays for the next batch."""

from __future__ import annotations

import os
import subprocess
import sys

_BATCHES = """
import resource
from dicom_node.training.allocation import keep_freed_memory
kept = keep_freed_memory()
bytearray(48 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    bytearray(48 << 20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def batches(**more: str) -> tuple[str, int]:
    """Run forty batches; returns whether memory was kept, and how many pages came anew."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    told = subprocess.run(
        [sys.executable, "-c", _BATCHES],
        env=own | more, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return told[0], int(told[1])


def test_the_pages_of_one_batch_serve_the_next() -> None:
    kept, pages = batches()
    left_alone, all_pages = batches(MALLOC_ARENA_MAX="4")
    assert (kept, left_alone) == ("True", "False"), "who tells the C library how is not overruled"
    assert pages * 5 < all_pages
