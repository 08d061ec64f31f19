"""Where the time of transactions goes, and what they leave in the database."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event, func, select, text

from dicom_node.store.database import Database
from dicom_node.store.tables import Base


@dataclass
class Spent:
    """Counts and seconds of one process's transactions."""

    commits: int = 0
    statements: int = 0
    in_statements: float = 0.0
    in_commits: float = 0.0

    def of(self, studies: int, ms: float) -> str:
        """Return the cells of a table, per study, of which each took so many milliseconds."""
        busy = 1000 * self.in_statements / studies
        waiting = 1000 * self.in_commits / studies
        return (
            f"{self.commits / studies:.1f} | {self.statements / studies:.0f} | {busy:.1f} | "
            f"{waiting:.1f} | {ms - busy - waiting:.1f}"
        )


class Meter:
    """Measures every transaction of a database from now on, until it is stopped."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._spent = Spent()
        self._began = 0.0
        self._commit = self._engine.dialect.do_commit
        self._engine.dialect.do_commit = self._timed_commit  # type: ignore[method-assign]
        event.listen(self._engine, "before_cursor_execute", self._before)
        event.listen(self._engine, "after_cursor_execute", self._after)

    def stop(self) -> Spent:
        event.remove(self._engine, "before_cursor_execute", self._before)
        event.remove(self._engine, "after_cursor_execute", self._after)
        self._engine.dialect.do_commit = self._commit  # type: ignore[method-assign]
        return self._spent

    def _before(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _after(self, *_: Any) -> None:
        self._spent.in_statements += time.perf_counter() - self._began
        self._spent.statements += 1

    def _timed_commit(self, connection: Any) -> None:
        began = time.perf_counter()
        self._commit(connection)
        self._spent.in_commits += time.perf_counter() - began
        self._spent.commits += 1


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows and bytes of a database."""

    rows: int
    bytes: int

    def of(self, before: Kept, studies: int) -> str:
        """Return the cells of a table: what each study has added."""
        rows = (self.rows - before.rows) / studies
        return f" {rows:.0f} | {(self.bytes - before.bytes) / studies / 1024:.1f} |"


def kept(database: Database) -> Kept:
    """Count the rows of all tables, and the bytes of the database with its indexes."""
    with database.read() as session:
        rows = sum(
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.tables.values()
        )
        if database.is_postgres:
            size = session.scalar(text("SELECT pg_database_size(current_database())"))
        else:
            size = session.scalar(
                text(
                    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, "
                    "pragma_freelist_count, pragma_page_size"
                )
            )
    return Kept(rows, int(size or 0))
