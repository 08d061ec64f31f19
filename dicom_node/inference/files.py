"""DICOM files as they lie in the spool."""

from __future__ import annotations

from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import FileDataset

from dicom_node.errors import ImageError

_log = structlog.get_logger()


def read_file(file: Path) -> FileDataset:
    """Read a file with its pixels.

    Raises:
        ImageError: It cannot be read.
    """
    return _read(file, headers_only=False)


def read_header(file: Path) -> FileDataset:
    """Read a file without its pixels.

    Raises:
        ImageError: It cannot be read.
    """
    return _read(file, headers_only=True)


def _read(file: Path, *, headers_only: bool) -> FileDataset:
    try:
        return dcmread(file, stop_before_pixels=headers_only)
    except Exception as error:  # noqa: BLE001 - a damaged file makes pydicom raise anything
        _log.warning("file_not_read", file=file.name, error=type(error).__name__)
        raise ImageError(f"file {file.name}", "it cannot be read", "send it again") from None
