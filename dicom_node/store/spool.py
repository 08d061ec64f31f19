"""The spool: received files, durable before they are acknowledged, filed after.

`inbox/` holds what was acknowledged and is not indexed yet (of each file, as much is the image as
its seal says: `Spool.finish`); `studies/<study>/<series>/<sop>.dcm`
what is; `aside/` what could not be indexed or contradicts what came before; `incoming/` what is
being written, one folder for each writing process. A file is moved only by rename, so that a
crash leaves it in exactly one of these places.

One fsync for each file: its name in `incoming/` is durable before its first byte is written
(files are made in advance, and their folder synced once for all of them), and when it is whole it
is sealed (`store.seal`) and fsynced; or written in one piece over a file of the reserve, which
needs no fsync (`store.reserve`). From then on it survives power loss; the rename to the inbox
need not, for `clean_up` finds a sealed file where it was and moves it again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import NotCutError, SpoolError
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.store.collected import Collected
from dicom_node.store.doorbell import Doorbell
from dicom_node.store.files import sync_folder
from dicom_node.store.incoming import Incoming, refused
from dicom_node.store.seal import checked, dataset_sha256
from dicom_node.store.writing import CleanedUp, WritingFolder


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


class Spool:
    """Received files under one root folder; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inbox = root / "inbox"
        self._aside = root / "aside"
        self._writing = WritingFolder(root / "incoming", self._inbox)
        self.arrivals = Doorbell(root / "wake", "arrivals")
        """Rung when a sender has gone, whose images should be indexed."""
        try:
            for folder in (self._inbox, root / "incoming", self._aside, root / "studies"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(root, error) from error

    def clean_up(self) -> CleanedUp:
        """Finish what writers that died left: sealed files go to the inbox, others are removed.

        What a living process is writing is left alone. To be called before receiving begins.

        Raises:
            SpoolError: The disk refused.
        """
        return self._writing.clean_up()

    def keep_reserve(self, size: int) -> None:
        """Keep files for images ready (`store.reserve`), of so many bytes in all, until `close`."""
        self._writing.keep_reserve(size)

    def incoming(self, head: bytes) -> Incoming | Collected:
        """Begin to receive a file.

        Args:
            head: Preamble and File Meta Information; the preamble becomes the file's seal.

        Raises:
            SpoolError: The disk refused.
        """
        return self._writing.begin(head)

    def close(self) -> None:
        """Give up this process's writing folder; what is unfinished in it is removed."""
        self._writing.close()

    def free_bytes(self) -> int:
        """Return the space that is free for us on the spool's file system.

        Raises:
            SpoolError: The file system does not answer.
        """
        try:
            stat = os.statvfs(self.root)
        except OSError as error:
            raise refused(self.root, error) from error
        return stat.f_bavail * stat.f_frsize

    def waiting(self) -> list[Path]:
        """Return the files that wait to be indexed, oldest first."""
        files: list[tuple[int, str]] = []
        with os.scandir(self._inbox) as entries:
            for entry in entries:
                # another process may have moved it since it was listed
                with contextlib.suppress(FileNotFoundError):
                    files.append((entry.stat().st_mtime_ns, entry.path))
        return [Path(path) for _, path in sorted(files)]

    def finish(self, file: Path) -> str:
        """Check an inbox file against its seal, and cut a file of the reserve to its image.

        Returns:
            SHA-256 of the encoded data set, in hexadecimal.

        Raises:
            SpoolError: The file has changed.
            NotCutError: The disk refused; the file is to be looked at again.
        """
        sha256, size = checked(file)
        if size < file.stat().st_size:
            try:
                os.truncate(file, size)
            except OSError as error:
                why = error.strerror or "the disk refused"
                raise NotCutError(
                    file.name, why, "check the disk's space, rights and health"
                ) from error
        return sha256

    def plan(self, file: Path, sha256: str, study_uid: str, series_uid: str, sop_uid: str) -> Plan:
        """Work out where an inbox file belongs; moves nothing.

        Args:
            sha256: As `finish` returned it.

        Raises:
            SpoolError: A UID is not one, and would name a folder.
        """
        for name, uid in (("Study", study_uid), ("Series", series_uid), ("SOP", sop_uid)):
            if not is_valid_uid(uid):
                raise SpoolError(
                    file.name, f"its {name} Instance UID is not a UID", "mend the sender"
                )
        return Plan(file, f"studies/{study_uid}/{series_uid}/{sop_uid}.dcm", sha256)

    def place(self, plan: Plan, *, keep_aside: bool = False) -> Path:
        """Move a planned file to its place; harmless when repeated; loses no content.

        The move need not be durable: after a power loss the file is in either place, and from
        the inbox it is placed again. `sync` makes many moves durable at once.

        A file with the same content there already makes this one superfluous; a file with other
        content, which the index does not know of, is moved aside first.

        Args:
            keep_aside: The index holds other content for this place: keep this file in `aside/`,
                under a name with its hash.

        Raises:
            SpoolError: The disk refused; the file is still where it was.
        """
        target = self.root / plan.path
        if keep_aside:
            target = self._aside / f"{target.stem}.{plan.sha256[:16]}.dcm"
        try:
            _make_folders(target.parent, self.root)
            if not plan.source.exists():
                return target
            if target.exists():
                there = dataset_sha256(target)
                if there == plan.sha256:
                    plan.source.unlink()
                    return target
                target.rename(self._aside / f"{target.stem}.{there[:16]}.dcm")
                sync_folder(self._aside)
            plan.source.rename(target)
        except OSError as error:
            raise refused(target.parent, error) from error
        return target

    def sync(self, files: Iterable[Path]) -> None:
        """Make the moves of placed files durable: one fsync for each of their folders.

        Raises:
            SpoolError: The disk refused.
        """
        try:
            for folder in {file.parent for file in files}:
                sync_folder(folder)
        except OSError as error:
            raise refused(self.root, error) from error

    def set_aside(self, file: Path) -> Path:
        """Move an inbox file that cannot be indexed to `aside/`.

        Raises:
            SpoolError: The disk refused; the file is still where it was.
        """
        target = self._aside / file.name
        try:
            file.rename(target)
            sync_folder(self._aside)
        except OSError as error:
            raise refused(self._aside, error) from error
        return target


def _make_folders(folder: Path, root: Path) -> None:
    """Make a folder below `root`; each new one is in its parent for good."""
    missing: list[Path] = []
    while folder != root and not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)
