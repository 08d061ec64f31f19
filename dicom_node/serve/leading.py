"""Which coordinator moves the studies when several hosts share a PostgreSQL database: one.

It holds a lock of a session of the database (PostgreSQL 9.27.10, advisory locks): the server gives
it up by itself when the connection ends, and then another coordinator has it. The one that lost
it notices within seconds and stops. In between both may work: every change is a transaction that
looks anew at what it changes, and an object that is sent twice bears the same UID.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.logs import error_facts
from dicom_node.store.database import Database
from dicom_node.store.postgres import LEADER_LOCK

_log = structlog.get_logger()

_LOOK_EVERY: Final = 1.0


class Leadership:
    """The right to move the studies; on SQLite, which has one host, always ours."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Take it, if nobody has it; True when it is ours (still).

        Raises:
            SQLAlchemyError: The database cannot be reached.
        """
        if not self._database.is_postgres or self._holds():
            return True
        connection = self._database.engine.connect()
        try:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            took = connection.scalar(text(f"SELECT pg_try_advisory_lock({LEADER_LOCK})"))
        except BaseException:
            _end(connection)
            raise
        if not took:
            connection.close()
            return False
        self._connection = connection
        _log.info("leads")
        return True

    def wait(self, stop: threading.Event) -> bool:
        """Wait until it is ours; False when told to stop before."""
        told = False
        while not stop.is_set():
            try:
                if self.take():
                    return True
                if not told:
                    _log.warning("waits_for_the_other_coordinator")
                told = True
            except SQLAlchemyError as error:
                _log.warning("database_away", **error_facts(error))
            stop.wait(_LOOK_EVERY)
        return False

    @contextmanager
    def watched(self, turn: threading.Event) -> Iterator[None]:
        """Set `turn` as soon as it is lost."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK_EVERY):
                if self._database.is_postgres and not self._holds():
                    _log.warning("leadership_lost", fix="see that PostgreSQL runs")
                    turn.set()
                    return

        thread = threading.Thread(target=watch, name="watch-leadership", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        """Leave it to another, who can take it as soon as this returns."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            # the server would notice the connection's end too, but a moment later
            connection.execute(text(f"SELECT pg_advisory_unlock({LEADER_LOCK})"))
        except SQLAlchemyError as error:
            _log.warning("database_away", **error_facts(error))
        finally:
            _end(connection)

    def _holds(self) -> bool:
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.scalar(text("SELECT 1"))
        except SQLAlchemyError as error:
            _log.warning("database_away", **error_facts(error))
            self._connection = None
            _end(connection)
            return False
        return True


def _end(connection: Connection) -> None:
    """Close it for good: it must not go back among the others with the lock."""
    connection.invalidate()
    connection.close()
