"""The databases that tests run on: a file each on SQLite, one each of a PostgreSQL server.

`pytest --database postgresql` runs the whole test-suite on PostgreSQL: what a test names by its
data folder alone is then a database of that server, by `DICOM_NODE_DATABASE_URL`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from dicom_node.store.database import Database
from tests.peers.postgres import Postgres

KINDS: Final = ("sqlite", "postgresql")


class OfTheRun:
    """The server that a run with `--database postgresql` is on."""

    def __init__(self) -> None:
        self.server: Postgres | None = None

    def new_url(self) -> str | None:
        """Return a new database without tables; None: the run is on SQLite."""
        return self.server.new_database() if self.server is not None else None


OF_THE_RUN: Final = OfTheRun()


def sqlite_url(data_dir: Path) -> str:
    """Return the URL of the database that a node without `node.database_url` has."""
    return f"sqlite:///{data_dir / 'node.sqlite3'}"


@contextmanager
def fresh_database(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Database]:
    """A database of a kind, with this version's tables, empty."""
    if kind == "sqlite":
        database = Database(sqlite_url(folder))
        database.migrate()
        try:
            yield database
        finally:
            database.close()
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.database_with_tables()
    database = Database(url)
    try:
        database.migrate()
        yield database
    finally:
        database.close()
        server.empty(url)
