"""DICOM files as they lie in the spool, or as they came with a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import structlog
from pydicom import dcmread
from pydicom.dataset import FileDataset

from dicom_node.errors import ImageError

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InMemory:
    """A file that is in memory only: nothing of it is written to this machine's disk.

    Attributes:
        name: As in the spool.
        content: Of the file, as anything that has the buffer protocol.
    """

    name: str
    content: Any = field(repr=False)


DicomFile = Path | InMemory


def read_file(file: DicomFile) -> FileDataset:
    """Read a file with its pixels.

    Raises:
        ImageError: It cannot be read.
    """
    return _read(file, headers_only=False)


def read_header(file: DicomFile) -> FileDataset:
    """Read a file without its pixels.

    Raises:
        ImageError: It cannot be read.
    """
    return _read(file, headers_only=True)


def _read(file: DicomFile, *, headers_only: bool) -> FileDataset:
    try:
        opened = BytesIO(file.content) if isinstance(file, InMemory) else file
        return dcmread(opened, stop_before_pixels=headers_only)
    except Exception as error:  # noqa: BLE001 - a damaged file makes pydicom raise anything
        _log.warning("file_not_read", file=file.name, error=type(error).__name__)
        raise ImageError(f"file {file.name}", "it cannot be read", "send it again") from None
