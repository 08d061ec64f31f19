"""A real PostgreSQL server of the tests' own: a data folder, a free port, a database per test."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import pytest
from alembic.script import ScriptDirectory

from dicom_node.demo.ports import free_port
from dicom_node.store import copying  # noqa: F401 - all tables
from dicom_node.store.database import MIGRATIONS
from dicom_node.store.tables import Base
from tests.peers.ports import wait_for

USER: Final = "node"
PASSWORD: Final = "kept by the tests"
_HEAD: Final = ScriptDirectory(str(MIGRATIONS)).get_current_head()
_EMPTY: Final = """
DO $$
DECLARE item record; used boolean;
BEGIN
    FOR item IN SELECT tablename AS name FROM pg_tables
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', item.name) INTO used;
        IF used THEN EXECUTE format('TRUNCATE %I CASCADE', item.name); END IF;
    END LOOP;
    FOR item IN SELECT sequencename AS name FROM pg_sequences
        WHERE schemaname = 'public' AND last_value IS NOT NULL
    LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', item.name);
    END LOOP;
END $$
"""
"""Numbers begin at 1 again: tests name a row by its number."""
_STATE: Final = """
SELECT version_num, (SELECT count(*) FROM pg_tables WHERE schemaname = 'public')
FROM alembic_version
"""
_DIE_WITH_PARENT: Final = 1

SETTINGS: Final = {
    # nothing of a test must survive a power loss
    "fsync": "off",
    "full_page_writes": "off",
    # ours is on all the same, see dicom_node.store.postgres
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "log_timezone": "UTC",
}


def programs() -> Path | None:
    """Return the folder of the newest server's programs, if there is one."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3])
    )
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return Path(there).parent if there else None


class Postgres:
    """A server; may be stopped, killed and started again on the same data."""

    def __init__(self, folder: Path, bin_dir: Path, **settings: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._bin = bin_dir
        # the server refuses to run as root
        self._user = "postgres" if os.getuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._spare: str | None = None
        self._empty: list[str] = []
        self._settings = SETTINGS | settings
        self._make()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                start_new_session=True,
                preexec_fn=partial(_libc().prctl, _DIE_WITH_PARENT, int(signal.SIGINT)),
            )
        wait_for("PostgreSQL", self._answers, 60)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT at once and in order (fast shutdown), SIGQUIT as in a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and start it."""
        self.stop(how)
        self.start()

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        """Return a database's URL as `node.database_url` has it."""
        secret = password.replace(" ", "%20")
        return f"postgresql+psycopg://{USER}:{secret}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make a database without tables and return its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.url(name)

    def database_with_tables(self) -> str:
        """Return a database with this version's tables, empty."""
        return self._empty.pop() if self._empty else self.new_database()

    def empty(self, url: str) -> None:
        """Take back a database with tables, for the next who needs one."""
        name = url.rsplit("/", 1)[1]
        try:
            with self._connect(name) as connection:
                connection.execute("SET lock_timeout = '5s'")
                connection.execute(_EMPTY)
                found = connection.execute(_STATE).fetchall()
        except psycopg.Error:
            found = []
        # some tests drop a table
        if found == [(_HEAD, len(Base.metadata.tables) + 1)]:
            self._empty.append(url)
        else:
            self.drop(url)

    def unused_database(self) -> str:
        """Return a database without tables that nobody has used."""
        if self._spare is None:
            self._spare = self.new_database()
        return self._spare

    def give_back(self, url: str) -> None:
        """Remove an `unused_database` if anybody has used it; otherwise it is the next one."""
        tables = self.query(
            "SELECT 1 FROM pg_tables WHERE schemaname = 'public' LIMIT 1", url.rsplit("/", 1)[1]
        )
        if tables:
            self._spare = None
            self.drop(url)

    def drop(self, url: str) -> None:
        """Remove a database, whoever still uses it."""
        self._sql(f'DROP DATABASE IF EXISTS "{url.rsplit("/", 1)[1]}" WITH (FORCE)')

    def query(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a query as the administrator would, and return its rows."""
        with self._connect(database) as connection:
            return connection.execute(statement.encode()).fetchall()

    @property
    def log(self) -> Path:
        return self._folder / "postgres.log"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _make(self) -> None:
        self._data.mkdir(parents=True)
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        for path in (self._folder, self._data, secret):
            if self._user is not None:
                shutil.chown(path, self._user, self._user)
        done = subprocess.run(
            [
                self._bin / "initdb",
                *("-D", self._data),
                *("-U", USER),
                *("-A", "scram-sha-256"),
                f"--pwfile={secret}",
                "--encoding=UTF8",
                # sorts and compares by language, as most installations do
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def _sql(self, statement: str) -> None:
        with self._connect("postgres") as connection:
            connection.execute(statement.encode())


@contextmanager
def running_postgres(**settings: str) -> Iterator[Postgres]:
    """Start a server; it is gone at the end. Where it is not installed, CI fails and others skip.

    Args:
        settings: Of the server, over those that make tests fast.
    """
    bin_dir = programs()
    if bin_dir is None:
        missing = pytest.fail if "DICOM_NODE_SHARED" in os.environ else pytest.skip
        missing("PostgreSQL is not installed: `make test` installs it")
    # not below pytest's folder: that one is closed to the server's user
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-postgres-"))
    try:
        server = Postgres(folder, bin_dir, **settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
