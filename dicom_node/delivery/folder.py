"""Sending the DICOM files of a folder to a peer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from dicom_node.delivery.answers import Answer, Destination, Outgoing
from dicom_node.errors import NodeError
from dicom_node.model.unreadable import UNREADABLE


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a folder, sorted by path."""

    files: tuple[Path, ...]
    not_dicom: tuple[Path, ...]


def files_in(folder: Path) -> Found:
    """List the DICOM files under a folder, or the one file named.

    Raises:
        NodeError: There is no such folder, it holds no DICOM file, or not all of it can be read.
    """
    if not folder.exists():
        raise NodeError(str(folder), "there is no such file or folder", "check the path")
    files: list[Path] = []
    others: list[Path] = []
    try:
        for file in [folder] if folder.is_file() else sorted(_every(folder)):
            (files if _is_dicom(file) else others).append(file)
    except OSError as error:
        # what is passed over here, nobody would miss
        why = error.strerror or type(error).__name__
        raise NodeError(
            str(error.filename or folder), why, "check its rights, or move it"
        ) from None
    if not files:
        why = "it is not a DICOM file" if folder.is_file() else "it holds no DICOM file"
        raise NodeError(str(folder), why, "name a DICOM file, or a folder of them")
    return Found(tuple(files), tuple(others))


def send_files(destination: Destination, files: Sequence[Path]) -> Iterator[tuple[Path, Answer]]:
    """Send files, in the transfer syntax that they have where the peer takes it."""
    outgoing = [Outgoing(number, file, *_context(file)) for number, file in enumerate(files)]
    for answer in destination.send(outgoing):
        yield files[answer.id], answer


def _context(file: Path) -> tuple[str, str]:
    meta = read_file_meta_info(file)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _every(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (file for name in names if (file := Path(place, name)).is_file())


def _is_dicom(file: Path) -> bool:
    try:
        _context(file)
    except OSError:
        raise
    except UNREADABLE:
        return False
    return True
