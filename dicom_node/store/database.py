"""The database: engine, transactions, and bringing the tables up to date.

Who reads and then writes must not be disturbed in between. SQLite has one writer at a time. On
PostgreSQL a write transaction is alone, too, by a lock on the whole database, unless it says that
others may write beside it (`write(alone=False)`). Those that do are the frequent ones, and right
for a reason each:

- events of the receiver: they only add rows;
- a worker's claim: it locks the jobs it takes (`FOR UPDATE SKIP LOCKED`), which also looks at each
  row's newest state; studies change only in transactions that are alone;
- a worker's renewal and result: of a job that is its own, which only a transaction alone may take
  away; its reports have UIDs of their own;
- a sender's record of an answer: of a delivery of its peer, which has one sender; all else that
  changes a delivery is alone.

Everything else is alone: the index, settling, routing, holding, retention, retries, taking back.
It waits for those before it to end, and those after it wait: nobody is passed over. All take the
lock of writing first, so a cycle of waits could only be among those that share it, and they wait
for no row of each other but a suspect pipeline's (`store.losses.clear`), which each locks last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import structlog
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from dicom_node.errors import StoreError
from dicom_node.store import postgres, wake

_log = structlog.get_logger()
T = TypeVar("T")

MIGRATIONS: Final = Path(__file__).parent / "migrations"
"""Alembic's scripts."""

_WRITE: Final = "dicom_node_write"
_ALONE: Final = "alone"
_BESIDE: Final = "beside others"
_PATIENCE: Final = 300.0
_TRY_AGAIN: Final = 1.0
_ONE_VIEW: Final[dict[str, Any]] = {
    "isolation_level": "REPEATABLE READ",
    "postgresql_readonly": True,
}


class Database:
    """Transactions on one database URL.

    SQLite runs in WAL mode with full synchronisation: a commit survives power loss, and
    readers do not wait for the writer. A write transaction takes the write lock at its start,
    so that two processes never deadlock half-way. So it does on PostgreSQL.

    Raises:
        StoreError: The URL names no database that can be used here.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parsed = make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            self.is_postgres = parsed.get_backend_name() == "postgresql"
            self.file = Path(parsed.database) if self.is_sqlite and parsed.database else None
            if self.file is not None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            # the values of a statement may hold patient data: no exception quotes them
            self.engine = create_engine(
                postgres.url_of(parsed) if self.is_postgres else parsed,
                pool_pre_ping=not self.is_sqlite,
                hide_parameters=True,
                connect_args=postgres.connect_args(parsed) if self.is_postgres else {},
            )
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
        if not (self.is_sqlite or self.is_postgres):
            raise StoreError(
                "database",
                f"{parsed.get_backend_name()} is none that it can be kept in",
                "name a PostgreSQL database in `node.database_url`, or none for SQLite",
            )
        if self.is_sqlite:
            _prepare_sqlite(self.engine)
        else:
            postgres.prepare(self.engine)
            _lock_at_begin(self.engine)

    @contextmanager
    def write(self, *, alone: bool = True) -> Iterator[Session]:
        """A transaction that changes something: committed at the end, undone on an error.

        Args:
            alone: Nobody else writes meanwhile; False: others may, for the reasons above.
        """
        with _session(self.engine) as session:
            session.connection(execution_options={_WRITE: _ALONE if alone else _BESIDE})
            event.listen(session, "after_flush", wake.note)
            try:
                yield session
                if self.is_postgres:
                    wake.notify(session)
            except BaseException:
                session.rollback()
                raise
            session.commit()
            if self.is_sqlite:
                wake.ring(self, session)

    def insist(self, work: Callable[[Session], T], *, alone: bool = True) -> T:
        """Do work in a write transaction; while the server is away, try again for minutes.

        Args:
            work: May be called again when it was done and only the answer was lost.
        """
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                with self.write(alone=alone) as session:
                    return work(session)
            except DBAPIError as error:
                if not postgres.is_away(error) or time.monotonic() > end:
                    raise
                _log.warning("database_away", error=type(error.orig).__name__)
            threading.Event().wait(_TRY_AGAIN)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads: one consistent view."""
        with _session(self.engine) as session:
            if self.is_postgres:
                session.connection(execution_options=_ONE_VIEW)
            yield session

    def migrate(self) -> None:
        """Bring the tables to this version's shape.

        Raises:
            StoreError: The database cannot be reached, or is none of ours.
        """
        try:
            current, needed = self.revision()
        except DatabaseError as error:
            raise _unusable(error) from error
        if current != needed:
            self._change_tables("upgrade", "head")

    def roll_back(self, revision: str) -> None:
        """Bring the tables back to an older version's shape; what only the newer keeps is lost.

        Args:
            revision: Of that version: its newest file in `store/migrations/versions`; "base" is
                no table at all.

        Raises:
            StoreError: The database cannot be reached, or is none of ours.
        """
        self._change_tables("downgrade", revision)

    def server_version(self) -> str:
        """Return the version of PostgreSQL.

        Raises:
            StoreError: It cannot be reached.
        """
        try:
            with self.engine.connect() as connection:
                return str(connection.exec_driver_sql("SHOW server_version").scalar_one())
        except DatabaseError as error:
            raise _unusable(error) from None

    def revision(self) -> tuple[str | None, str]:
        """Return the database's schema revision and the one that this version needs."""
        with self.engine.connect() as connection:
            current = None
            if inspect(connection).has_table("alembic_version"):
                current = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return current, _known()[-1]

    def check_revision(self) -> tuple[str | None, str]:
        """Return the same, for a database that nobody may have looked at yet.

        Raises:
            StoreError: It cannot be reached, is no database, or a newer version made it.
        """
        try:
            current, needed = self.revision()
        except DatabaseError as error:
            raise _unusable(error) from None
        if current is not None and current not in _known():
            raise _newer()
        return current, needed

    def older_revisions(self) -> list[str]:
        """Return the revisions that the tables can be rolled back to, newest first."""
        current, _ = self.revision()
        if current is None:
            return []
        return [revision for revision in reversed(_known()) if revision < current]

    def close(self) -> None:
        self.engine.dispose()

    def _change_tables(self, change: Literal["upgrade", "downgrade"], revision: str) -> None:
        # a fifth of a second of each role's start, and mostly there is nothing to change
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        try:
            with self.engine.connect().execution_options(**{_WRITE: _ALONE}) as connection:
                config = Config()
                config.set_main_option("script_location", str(MIGRATIONS))
                config.attributes["connection"] = connection
                getattr(command, change)(config, revision)
                connection.commit()
        except DatabaseError as error:
            raise _unusable(error) from error
        except CommandError:
            raise _newer() from None


def _known() -> list[str]:
    """This version's revisions, oldest first: one line of scripts, `NUMBER_what.py`."""
    return sorted(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


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
    if error.orig is not None and type(error.orig).__module__.startswith("psycopg"):
        return StoreError("database", *postgres.why_unusable(error))
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
        write = _WRITE in connection.get_execution_options()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _lock_at_begin(engine: Engine) -> None:
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE)
        if write is not None:
            postgres.lock_writes(connection, alone=write == _ALONE)
