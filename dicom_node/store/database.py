"""The database: engine, transactions, and bringing the tables up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.orm import Session

from dicom_node.errors import StoreError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
"""Alembic's scripts."""

_WRITE: Final = "dicom_node_write"


class Database:
    """Transactions on one database URL.

    SQLite runs in WAL mode with full synchronisation: a commit survives power loss, and
    readers do not wait for the writer. A write transaction takes the write lock at its start,
    so that two processes never deadlock half-way.

    Raises:
        StoreError: The URL names no database that can be used here.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parsed = make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            self.file = Path(parsed.database) if self.is_sqlite and parsed.database else None
            if self.file is not None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            # the values of a statement may hold patient data: no exception quotes them
            self.engine = create_engine(url, pool_pre_ping=not self.is_sqlite, hide_parameters=True)
        except ArgumentError:
            # SQLAlchemy's text quotes the URL, which may hold a password
            raise StoreError(
                "database", "its URL is not one", "correct `node.database_url`"
            ) from None
        except ImportError as error:
            raise StoreError(
                "database", f"the driver {error.name} is not installed", "`pip install` it"
            ) from None
        except OSError as error:
            raise StoreError(
                "database",
                f"its folder cannot be made: {error.strerror}",
                "check `node.data_dir` or `node.database_url`",
            ) from None
        if self.is_sqlite:
            _prepare_sqlite(self.engine)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that changes something: committed at the end, undone on an error."""
        with _session(self.engine) as session:
            session.connection(execution_options={_WRITE: True})
            try:
                yield session
            except BaseException:
                session.rollback()
                raise
            session.commit()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads: one consistent view."""
        with _session(self.engine) as session:
            yield session

    def migrate(self) -> None:
        """Bring the tables to this version's shape.

        Raises:
            StoreError: The database cannot be reached, or is none of ours.
        """
        self._change_tables(command.upgrade, "head")

    def roll_back(self, revision: str) -> None:
        """Bring the tables back to an older version's shape; what only the newer keeps is lost.

        Args:
            revision: Of that version: its newest file in `store/migrations/versions`; "base" is
                no table at all.

        Raises:
            StoreError: The database cannot be reached, or is none of ours.
        """
        self._change_tables(command.downgrade, revision)

    def revision(self) -> tuple[str | None, str | None]:
        """Return the database's schema revision and the one that this version needs."""
        with self.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        return current, ScriptDirectory(str(MIGRATIONS)).get_current_head()

    def check_revision(self) -> tuple[str | None, str | None]:
        """Return the same, for a database that nobody may have looked at yet.

        Raises:
            StoreError: It cannot be reached, is no database, or a newer version made it.
        """
        try:
            current, needed = self.revision()
            known = {item.revision for item in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
        except DatabaseError as error:
            raise _unusable(error) from None
        if current is not None and current not in known:
            raise _newer()
        return current, needed

    def close(self) -> None:
        self.engine.dispose()

    def _change_tables(self, change: Callable[[Config, str], None], revision: str) -> None:
        try:
            with self.engine.connect().execution_options(**{_WRITE: True}) as connection:
                change(self._alembic(connection), revision)
                connection.commit()
        except DatabaseError as error:
            raise _unusable(error) from error
        except CommandError:
            raise _newer() from None

    def _alembic(self, connection: Connection) -> Config:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        return config


@contextmanager
def _session(engine: Engine) -> Iterator[Session]:
    """A session whose objects outlive its end.

    Up to CPython 3.11 any allocation may start a garbage collection. One that, while the closing
    session writes to an object's state, finds that very object in a dead cycle (a study and its
    jobs) calls back into the same state, and the interpreter's memory is corrupt. An object that
    is still held here is no garbage until the session is done with its state.
    """
    held: list[object] = []
    with Session(engine, expire_on_commit=False) as session:
        try:
            yield session
        finally:
            held.extend(session.identity_map.values())
    held.clear()


def _unusable(error: DatabaseError) -> StoreError:
    fix = "restore it from a backup, or correct `node.database_url`"
    if isinstance(error, OperationalError):
        fix = "check `node.database_url`, the server, and the folder's rights and space"
    return StoreError("database", str(error.orig), fix)


def _newer() -> StoreError:
    return StoreError(
        "database",
        "its tables were made by a newer dicom-node",
        "run that version again, or restore a backup from before its upgrade",
    )


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        # the driver must not begin transactions by itself: `_begin` below does
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=60000",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
