"""A copy of the SQLite database, taken while the node runs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from pathlib import Path

from dicom_node.errors import StoreError
from dicom_node.store.database import Database
from dicom_node.store.files import sync_folder


def back_up(database: Database, target: Path) -> int:
    """Write the database, as it is at one moment, into a file of its own.

    SQLite's backup (sqlite.org/backup.html) reads one consistent view and holds up no writer. The
    copy is checked, on disk, readable by its owner alone, and needs no file beside it.

    Returns:
        The size of the copy in bytes.

    Raises:
        StoreError: It is not SQLite, the file is there already, or the copy could not be made.
    """
    if database.file is None:
        raise StoreError(
            "database", "it is not SQLite", "use the tools of its server, such as `pg_dump`"
        )
    if target.exists():
        raise StoreError(str(target), "it is there already", "name a new file")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(database.file, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(target)
        sync_folder(target.parent)
        return target.stat().st_size
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(
            f"backup {target}", why or "the disk refused", "check the folder, its space and rights"
        ) from error


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as a,
        contextlib.closing(sqlite3.connect(target)) as b,
    ):
        a.backup(b)
        # the copy takes over the journal's mode, and would leave files beside it
        b.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = b.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError("the copy does not pass SQLite's integrity check")
