"""Files of a training run that are there only when they are whole: a killed run can go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Yield a path beside `file` to write to; when that is done, it takes `file`'s place.

    What an error or a kill leaves of it (`.part`) counts for nothing and is overwritten.
    """
    partial = file.with_name(f"{file.name}.part")
    yield partial
    partial.replace(file)
