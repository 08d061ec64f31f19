"""Waking those who wait for work as soon as there is some, instead of letting them look again.

A transaction that queues a job or a delivery notifies those who listen, at its commit: on
PostgreSQL by NOTIFY, on SQLite, which has one host, by a doorbell. In both cases they also look
now and then, for what becomes due by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.logs import error_facts
from dicom_node.model.states import DeliveryState, JobState
from dicom_node.store.doorbell import Doorbell
from dicom_node.store.tables import Delivery, Job, Study

if TYPE_CHECKING:
    from dicom_node.store.database import Database

_log = structlog.get_logger()

FOLDER: Final = "wake"
"""Of doorbells, beside the database's file."""
_TOPICS: Final = "topics"
_SLICE: Final = 0.1
"""Seconds after which a waiter looks whether it is to end."""
_SAFE_AT: Final = 2.0
"""Seconds after which one who is notified looks all the same."""
_RECONNECT: Final = 1.0


class Topic(StrEnum):
    """What there may be to do: the channel's name."""

    JOBS = "dicom_node_jobs"
    DELIVERIES = "dicom_node_deliveries"


class Wake(Protocol):
    """Lets a thread wait for work."""

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait until there may be work, or `stop` is set; without notices, so many seconds.

        Returns:
            Whether it was told of work.
        """


class Bells(Protocol):
    """Gives each waiter what it waits on."""

    def bell(self) -> Wake | None: ...


class Polling:
    """Nobody is notified: each looks again after its own while."""

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        stop.wait(seconds)
        return False


class Bell:
    """Rung by the listener; belongs to one waiter, and keeps what was rung while it worked.

    Args:
        connected: Set while there is somebody who would ring it.
    """

    def __init__(self, connected: threading.Event) -> None:
        self.rung = threading.Event()
        self._connected = connected

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        longest = max(_SAFE_AT, seconds) if self._connected.is_set() else seconds
        end = time.monotonic() + longest
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if self.rung.wait(min(_SLICE, left)):
                self.rung.clear()
                return True
        return False


class Listener:
    """Hears notices on a connection of its own; while it has none, waiters look as on SQLite."""

    def __init__(self, database: Database, topic: Topic) -> None:
        self._database = database
        self._topic = topic
        self._bells: list[Bell] = []
        self._connected = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"listen-{topic}", daemon=True)

    def bell(self) -> Wake:
        """Return a new waiter's bell."""
        bell = Bell(self._connected)
        self._bells.append(bell)
        return bell

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._listen()
            except SQLAlchemyError as error:
                _log.warning("notices_not_heard", topic=str(self._topic), **error_facts(error))
            self._connected.clear()
            self._over.wait(_RECONNECT)

    def _listen(self) -> None:
        with self._database.engine.connect() as pooled:
            connection: Any = pooled.connection.dbapi_connection
            try:
                connection.autocommit = True
                connection.execute(f"LISTEN {self._topic}")
                self._connected.set()
                # what was queued before we listened
                self._ring()
                while not self._over.is_set():
                    for _ in connection.notifies(timeout=0.5, stop_after=1):
                        self._ring()
            except connection.OperationalError as error:
                _log.warning("notices_not_heard", topic=str(self._topic), **error_facts(error))
            finally:
                # it listens: it must not go back among the others
                pooled.invalidate()

    def _ring(self) -> None:
        for bell in list(self._bells):
            bell.rung.set()


@contextmanager
def woken(database: Database, topic: Topic) -> Iterator[Bells | None]:
    """What notifies of a topic, until the end; None on a database in memory."""
    if not database.is_postgres:
        yield doorbell(database, topic)
        return
    listener = Listener(database, topic)
    listener.start()
    try:
        yield listener
    finally:
        listener.close()


def bell_of(bells: Bells | None) -> Wake:
    """Return what one waiter waits on."""
    return (bells.bell() if bells else None) or Polling()


def doorbell(database: Database, topic: Topic) -> Doorbell | None:
    """Return what wakes those who wait for a topic on SQLite; None: it is in memory."""
    if database.file is None:
        return None
    return Doorbell(database.file.parent / FOLDER, topic, _SAFE_AT)


def ring(database: Database, session: Session) -> None:
    """Wake those who wait on SQLite; to be called after the commit."""
    for topic in sorted(session.info.get(_TOPICS, ())):
        if (bell := doorbell(database, topic)) is not None:
            bell.ring()


def note(session: Session, _: object) -> None:
    """Keep in mind what a transaction queues; to be called after each flush."""
    topics: set[Topic] = session.info.setdefault(_TOPICS, set())
    for item in (*session.new, *session.dirty):
        if isinstance(item, Job) and item.state == JobState.QUEUED:
            topics.add(Topic.JOBS)
        elif isinstance(item, Delivery) and item.state == DeliveryState.PENDING:
            topics.add(Topic.DELIVERIES)
    if any(isinstance(item, Study) and _may_go_on(item) for item in session.dirty):
        topics |= set(Topic)


def notify(session: Session) -> None:
    """Tell those who listen, when the transaction is committed; to be called before that."""
    session.flush()
    for topic in sorted(session.info.get(_TOPICS, ())):
        session.execute(text("SELECT pg_notify(:topic, '')"), {"topic": str(topic)})


def _may_go_on(study: Study) -> bool:
    """It was routed or released: what waited for that is due."""
    attributes = inspect(study).attrs
    return bool(
        attributes.routed_revision.history.has_changes() or attributes.held_at.history.has_changes()
    )
