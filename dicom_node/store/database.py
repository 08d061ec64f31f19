"""The database: engine, transactions, and bringing the tables up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from dicom_node.errors import StoreError

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_WRITE: Final = "dicom_node_write"


class Database:
    """Transactions on one database URL.

    SQLite runs in WAL mode with full synchronisation: a commit survives power loss, and
    readers do not wait for the writer. A write transaction takes the write lock at its start,
    so that two processes never deadlock half-way.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine = create_engine(url, pool_pre_ping=not self.is_sqlite)
        if self.is_sqlite:
            _prepare_sqlite(self.engine)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that changes something: committed at the end, undone on an error."""
        with Session(self.engine, expire_on_commit=False) as session:
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
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    def migrate(self) -> None:
        """Bring the tables to this version's shape.

        Raises:
            StoreError: The database cannot be reached.
        """
        try:
            with self.engine.connect().execution_options(**{_WRITE: True}) as connection:
                command.upgrade(self._alembic(connection), "head")
                connection.commit()
        except OperationalError as error:
            raise StoreError(
                "database", str(error.orig), "check `node.database_url` and the folder's rights"
            ) from error

    def revision(self) -> tuple[str | None, str | None]:
        """Return the database's schema revision and the one that this version needs."""
        with self.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        return current, ScriptDirectory(str(_MIGRATIONS)).get_current_head()

    def close(self) -> None:
        self.engine.dispose()

    def _alembic(self, connection: Connection) -> Config:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = connection
        return config


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
