"""The spool: received files, durable before they are acknowledged, filed after.

`inbox/` holds what was acknowledged and is not indexed yet; `studies/<study>/<series>/<sop>.dcm`
what is; `aside/` what could not be indexed or contradicts what came before. A file is moved
only by rename, so that a crash leaves it in exactly one of these places.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.store.files import sync_folder

_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """Where an inbox file belongs.

    Attributes:
        source: The file in the inbox.
        path: Its place, relative to the spool's root.
        sha256: Of the encoded data set, without the File Meta Information.
    """

    source: Path
    path: str
    sha256: str


class Incoming:
    """A file that is being received; `keep` makes it durable, anything else removes it."""

    def __init__(self, temporary: Path, inbox: Path) -> None:
        self._temporary = temporary
        self._inbox = inbox
        self._file = temporary.open("xb")

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            SpoolError: The disk refused.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise _refused(self._inbox, error) from error

    def keep(self) -> Path:
        """Make the file durable and move it to the inbox; returns its path there.

        Raises:
            SpoolError: The disk refused; nothing is left behind.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target = self._inbox / f"{self._temporary.stem}.dcm"
            self._temporary.rename(target)
            sync_folder(self._inbox)
        except OSError as error:
            self.discard()
            raise _refused(self._inbox, error) from error
        return target

    def discard(self) -> None:
        """Remove what was written so far; harmless after `keep`."""
        # closing flushes, and on a full disk that fails: the file goes all the same
        with contextlib.suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class Spool:
    """Received files under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inbox = root / "inbox"
        self._temporary = root / "incoming"
        self._aside = root / "aside"
        try:
            for folder in (self._inbox, self._temporary, self._aside, root / "studies"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(root, error) from error

    def clean_up(self) -> int:
        """Remove what a receiver that died left unfinished; returns how many files.

        Nothing of it was acknowledged. To be called before receiving begins.
        """
        left = list(self._temporary.iterdir())
        for file in left:
            file.unlink()
        return len(left)

    def incoming(self) -> Incoming:
        """Begin to receive a file.

        Raises:
            SpoolError: The disk refused.
        """
        try:
            return Incoming(self._temporary / f"{uuid.uuid4().hex}.part", self._inbox)
        except OSError as error:
            raise _refused(self._temporary, error) from error

    def free_bytes(self) -> int:
        """Return the free space of the spool's file system."""
        return shutil.disk_usage(self.root).free

    def waiting(self) -> list[Path]:
        """Return the files that wait to be indexed, oldest first."""
        with os.scandir(self._inbox) as entries:
            files = [(entry.stat().st_mtime_ns, entry.path) for entry in entries]
        return [Path(path) for _, path in sorted(files)]

    def plan(self, file: Path, study_uid: str, series_uid: str, sop_uid: str) -> Plan:
        """Work out where an inbox file belongs; moves nothing.

        Raises:
            SpoolError: A UID is not one, and would name a folder.
        """
        for name, uid in (("Study", study_uid), ("Series", series_uid), ("SOP", sop_uid)):
            if not is_valid_uid(uid):
                raise SpoolError(
                    file.name, f"its {name} Instance UID is not a UID", "mend the sender"
                )
        return Plan(file, f"studies/{study_uid}/{series_uid}/{sop_uid}.dcm", dataset_sha256(file))

    def place(self, plan: Plan, *, keep_aside: bool = False) -> Path:
        """Move a planned file to its place; harmless when repeated.

        Args:
            keep_aside: Other content has this place already: keep this one beside it, under a
                name with its hash.
        """
        target = self.root / plan.path
        if keep_aside:
            target = self._aside / f"{target.stem}.{plan.sha256[:16]}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            plan.source.unlink(missing_ok=True)
        elif plan.source.exists():
            plan.source.rename(target)
            sync_folder(target.parent)
        return target

    def set_aside(self, file: Path) -> Path:
        """Move an inbox file that cannot be indexed to `aside/`."""
        target = self._aside / file.name
        file.rename(target)
        sync_folder(self._aside)
        return target


def dataset_sha256(file: Path) -> str:
    """Hash the encoded data set of a DICOM file, without preamble and File Meta Information.

    The File Meta Information is the receiver's own (PS3.10 section 7.1): two copies of one
    instance differ in it when two senders sent them.
    """
    with file.open("rb") as stream:
        stream.seek(_dataset_start(stream.read(144)))
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _dataset_start(head: bytes) -> int:
    # the group length (0002,0000) stands first: tag, VR, length, then the number itself
    if head[128:132] != b"DICM" or head[132:136] != b"\x02\x00\x00\x00":
        return 0
    return 144 + int.from_bytes(head[140:144], "little")


def _refused(where: Path, error: OSError) -> SpoolError:
    return SpoolError(
        str(where), error.strerror or "the disk refused", "check its space, rights and health"
    )
