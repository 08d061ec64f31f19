"""Sending the DICOM files of a folder to a peer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.delivery.answers import Answer, Destination, Outgoing
from dicom_node.errors import NodeError


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a folder, sorted by path."""

    files: tuple[Path, ...]
    not_dicom: tuple[Path, ...]


def files_in(folder: Path) -> Found:
    """List the DICOM files under a folder, or the one file named.

    Raises:
        NodeError: There is no such folder, or it holds no DICOM file.
    """
    if not folder.exists():
        raise NodeError(str(folder), "there is no such file or folder", "check the path")
    every = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    files: list[Path] = []
    others: list[Path] = []
    for file in every:
        (files if _sop_class(file) else others).append(file)
    if not files:
        raise NodeError(str(folder), "it holds no DICOM file", "name a folder that does")
    return Found(tuple(files), tuple(others))


def send_files(destination: Destination, files: Sequence[Path]) -> Iterator[tuple[Path, Answer]]:
    """Send files, in the transfer syntax that they have where the peer takes it."""
    outgoing = [Outgoing(number, file, *_context(file)) for number, file in enumerate(files)]
    for answer in destination.send(outgoing):
        yield files[answer.id], answer


def _context(file: Path) -> tuple[str, str]:
    meta = read_file_meta_info(file)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _sop_class(file: Path) -> str | None:
    try:
        return _context(file)[0]
    except (InvalidDicomError, AttributeError, OSError):
        return None
