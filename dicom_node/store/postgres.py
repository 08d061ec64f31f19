"""What is particular to PostgreSQL: its sessions, its locks, and what its errors mean.

A write transaction takes an advisory lock at its start and keeps it to its end: alone, or together
with others that are known not to touch what it touches (see `dicom_node.store.database`). A lock
is taken before a transaction's first statement, so that it sees all that its predecessor has
committed: under READ COMMITTED each statement has a snapshot of its own.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, event, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from dicom_node.errors import StoreError

DRIVER: Final = "postgresql+psycopg"
OLDEST: Final = 12
"""The oldest server that the tests' SQL is good for; CI runs on the one that Debian has."""

WRITE_LOCK: Final = 0x6469636F6D01
"""Key of the lock of write transactions (PostgreSQL 13.3.5, advisory locks): "dicom" and a number.

Every database has its own, so that several nodes may share a server."""
LEADER_LOCK: Final = 0x6469636F6D02
"""Key of the lock of the one coordinator that moves the studies."""

_SETTINGS: Final = {
    # as SQLite's busy_timeout: who cannot get a lock for so long says so instead of waiting on
    "lock_timeout": "60s",
    # a process that hangs, or whose host is gone, must not keep the others from writing for ever
    "idle_in_transaction_session_timeout": "120s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "TimeZone": "UTC",
}
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
"""What is committed must survive a crash of the server: its files have moved on by then."""
_CONNECT: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "dicom-node",
}

_AWAY: Final = ("08", "57P")
"""Classes of codes: the connection is lost; an administrator ends it, or the server starts."""

_FIXES: Final = (
    ("password authentication failed", "correct the user or the password"),
    ("no password supplied", "give the password in a file (PGPASSFILE) or in the URL"),
    ("no pg_hba.conf entry", "let this host and user in by the server's pg_hba.conf"),
    ("permission denied", "let the user own the database and its schema `public`"),
    ("too many clients", "raise the server's `max_connections`, see docs/operate.md"),
    ("remaining connection slots", "raise the server's `max_connections`, see docs/operate.md"),
    ("starting up", "wait: the server is starting"),
    ("shutting down", "start the server again"),
    ("does not exist", "create the user and the database (see docs/operate.md)"),
    ("could not translate host name", "correct the host's name"),
    ("failed to resolve host", "correct the host's name"),
)


def url_of(parsed: URL) -> URL:
    """Return a URL of PostgreSQL with the driver that we need, if it names none."""
    return parsed.set(drivername=DRIVER) if "+" not in parsed.drivername else parsed


def connect_args(parsed: URL) -> dict[str, Any]:
    """Return how to connect, where the URL does not say otherwise."""
    return {name: value for name, value in _CONNECT.items() if name not in parsed.query}


def prepare(engine: Engine) -> None:
    """Set up each connection of an engine.

    Raises:
        StoreError: At the first connection, when the server or the database cannot be used.
    """
    from psycopg.types.string import StrDumperUnknown

    class WithoutNul(StrDumperUnknown):
        """PostgreSQL's text cannot hold NUL, with which some senders pad."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", ""))

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.adapters.register_dumper(str, WithoutNul)
        version = connection.info.server_version // 10_000
        if version < OLDEST:
            raise StoreError(
                "database",
                f"its server is PostgreSQL {version}",
                f"PostgreSQL {OLDEST} or newer is needed",
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                "database",
                f"it holds text as {encoding}, in which names may be lost",
                "create it anew with ENCODING 'UTF8' TEMPLATE template0",
            )
        names = ", ".join(f"set_config('{name}', %s, false)" for name in _SETTINGS)
        connection.execute(f"SELECT {names}", list(_SETTINGS.values()))
        connection.execute(_DURABLE)
        connection.commit()


def lock_writes(connection: Connection, *, alone: bool) -> None:
    """Take the lock of write transactions until the end of this one."""
    how = "" if alone else "_shared"
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock{how}({WRITE_LOCK})")


def is_away(error: DBAPIError) -> bool:
    """Tell whether the server is away, perhaps only for a while: stopped, restarting, unreachable.

    Of a connection that cannot be made there is no code; what the server says has one.
    """
    if not type(error.orig).__module__.startswith("psycopg"):
        return False
    code = getattr(error.orig, "sqlstate", None)
    no_code = code is None and isinstance(error, OperationalError | InterfaceError)
    return error.connection_invalidated or no_code or str(code).startswith(_AWAY)


def try_lock(session: Session, name: str) -> bool:
    """Take a lock of a name until the end of the transaction; False when another has it.

    On SQLite there is never another.
    """
    if session.get_bind().dialect.name != "postgresql":
        return True
    key = func.hashtextextended(name, 0)
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(key))))


def why_unusable(error: DBAPIError) -> tuple[str, str]:
    """Return what the server says, and what to do about it.

    Of an error that it raised only the first line: the details may quote a patient's data.
    """
    primary = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    text = " ".join(str(primary or error.orig).split())
    for part, fix in _FIXES:
        if part in text:
            return text, fix
    return text, "check `node.database_url`, and that the server runs and can be reached"
