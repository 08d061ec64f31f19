"""Sending the DICOM files of a folder to a peer, in the transfer syntax that they have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.delivery.scu import Answer, Outgoing, ScuSettings, store
from dicom_node.errors import NodeError
from dicom_node.model.peers import Peer

_MAX_CONTEXTS: Final = 128
"""Presentation contexts that one association may propose (PS3.8 section 9.3.2.2)."""


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


def send_files(
    settings: ScuSettings, peer: Peer, files: Sequence[Path]
) -> Iterator[tuple[Path, Answer]]:
    """Send files over as few associations as their presentation contexts allow."""
    outgoing = [Outgoing(n, file, *_context(file)) for n, file in enumerate(files)]
    batch: list[Outgoing] = []
    contexts: set[tuple[str, str | None]] = set()
    for item in [*outgoing, None]:
        key = (item.sop_class_uid, item.transfer_syntax_uid) if item else None
        if item is None or (key not in contexts and len(contexts) == _MAX_CONTEXTS):
            for answer in store(settings, peer, batch):
                yield files[answer.id], answer
            batch, contexts = [], set()
        if item is not None and key is not None:
            batch.append(item)
            contexts.add(key)


def _context(file: Path) -> tuple[str, str]:
    meta = read_file_meta_info(file)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _sop_class(file: Path) -> str | None:
    try:
        return _context(file)[0]
    except (InvalidDicomError, AttributeError, OSError):
        return None
