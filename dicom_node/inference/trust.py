"""Which bundles may run code of their own: those whose files an administrator has looked at.

`trusted.yaml` lies beside the bundles, in their folder, where nothing that comes with a bundle
can write. It holds a SHA-256 over all files of a bundle; a file that changes takes the trust away.
Imports neither torch nor MONAI.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import yaml
from pydantic import TypeAdapter, ValidationError

from dicom_node.errors import PipelineError
from dicom_node.model.conditions import Strict

TRUSTED: Final = "trusted.yaml"
_LEFT_OUT: Final = frozenset({"configs/dicom.yaml"})
"""Plain data that the site writes itself; it cannot name code."""


class Trust(StrEnum):
    """TRUSTED: the files are those that were trusted. CHANGED: one of them is another now."""

    TRUSTED = "trusted"
    CHANGED = "changed"
    NONE = "none"


class TrustEntry(Strict):
    """One bundle in `trusted.yaml`."""

    sha256: str
    trusted_at: str


_ENTRIES: Final = TypeAdapter(dict[str, TrustEntry])


def files_of(folder: Path) -> Iterator[Path]:
    """Yield a bundle's files, in a fixed order; not what Python compiles for itself.

    Raises:
        PipelineError: One is a link, which may lead to another file tomorrow.
    """
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.relative_to(folder).parts:
            continue
        if path.is_symlink():
            raise PipelineError(
                f"bundle {folder.name}",
                f"{path.relative_to(folder)} is a symbolic link",
                "put the file itself there",
            )
        if path.is_file():
            yield path


def hash_of(folder: Path) -> str:
    """Return the SHA-256 over names and contents of a bundle's files.

    Raises:
        PipelineError: A file is a link, or cannot be read.
    """
    whole = hashlib.sha256()
    for path in files_of(folder):
        name = path.relative_to(folder).as_posix()
        if name in _LEFT_OUT:
            continue
        try:
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise PipelineError(
                f"bundle {folder.name}", f"{name} cannot be read: {error.strerror}", "restore it"
            ) from None
        # a name's length stands before it, so that no two sets of files read alike
        whole.update(f"{len(name.encode())} {name} {digest}\n".encode())
    return whole.hexdigest()


def trust_of(folder: Path) -> Trust:
    """Tell whether a bundle may run its own code.

    Raises:
        PipelineError: `trusted.yaml` or a file of the bundle cannot be read.
    """
    entry = _entries(folder.parent / TRUSTED).get(folder.name)
    if entry is None:
        return Trust.NONE
    return Trust.TRUSTED if entry.sha256 == hash_of(folder) else Trust.CHANGED


def trust(folder: Path) -> str:
    """Record that a bundle may run its own code as it is now; returns its SHA-256.

    Raises:
        PipelineError: A file cannot be read, or `trusted.yaml` not be written.
    """
    file = folder.parent / TRUSTED
    entries = dict(_entries(file))
    sha256 = hash_of(folder)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    entries[folder.name] = TrustEntry(sha256=sha256, trusted_at=at)
    _write(file, entries)
    return sha256


def distrust(folder: Path) -> bool:
    """Take a bundle's trust away; False when it had none.

    Raises:
        PipelineError: `trusted.yaml` cannot be read or written.
    """
    file = folder.parent / TRUSTED
    entries = dict(_entries(file))
    if entries.pop(folder.name, None) is None:
        return False
    _write(file, entries)
    return True


def _entries(file: Path) -> Mapping[str, TrustEntry]:
    if not file.is_file():
        return {}
    try:
        return _ENTRIES.validate_python(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except (OSError, ValueError, yaml.YAMLError, ValidationError) as error:
        raise PipelineError(
            str(file),
            f"it cannot be read ({type(error).__name__})",
            "restore it, or remove it and trust the bundles again",
        ) from None


def _write(file: Path, entries: Mapping[str, TrustEntry]) -> None:
    text = yaml.safe_dump({name: entry.model_dump() for name, entry in sorted(entries.items())})
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise PipelineError(
            str(file), f"it cannot be written: {error.strerror}", "run this as the folder's owner"
        ) from None
