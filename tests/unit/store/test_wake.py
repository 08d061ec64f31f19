"""Who waits for work is woken when there is some, and looks for itself where nobody tells it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store import held, jobs
from dicom_node.store.database import Database
from dicom_node.store.doorbell import Doorbell
from dicom_node.store.jobs import NewJob
from dicom_node.store.wake import FOLDER, Polling, Topic, Wake, bell_of, woken
from tests.peers.ports import wait_for
from tests.peers.postgres import Postgres, running_postgres
from tests.unit.store.lifecycles import Store


class Waiter:
    """A thread that waits again and again, and counts how often it was let go."""

    def __init__(self, wake: Wake, seconds: float) -> None:
        self.woken = 0
        self._stop = threading.Event()
        self._wake, self._seconds = wake, seconds
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._stop, self._seconds)
            self.woken += not self._stop.is_set()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'node.sqlite3'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def on_postgres(postgres: Postgres) -> Iterator[Database]:
    url = postgres.database_with_tables()
    database = Database(url)
    database.migrate()
    yield database
    database.close()
    postgres.empty(url)


@pytest.mark.parametrize("topic", list(Topic))
def test_what_is_queued_wakes_at_its_commit(
    on_postgres: Database, postgres: Postgres, topic: Topic
) -> None:
    store = Store(on_postgres)
    with woken(on_postgres, topic) as listener:
        waiter = Waiter(bell_of(listener), 3600)
        try:
            wait_for("a listener", lambda: _listens(postgres))
            store.arrive("1")
            before = waiter.woken
            store.route("1")
            if topic is Topic.DELIVERIES:
                job = store.claim()
                assert job is not None
                before = waiter.woken
                store.finish(job)
            wait_for("a notice", lambda: waiter.woken > before)
        finally:
            waiter.end()


def test_what_is_undone_wakes_nobody(on_postgres: Database) -> None:
    heard: list[object] = []
    with on_postgres.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.autocommit = True
        raw.execute(f"LISTEN {Topic.JOBS}")
        store = Store(on_postgres)
        store.arrive("1")
        with pytest.raises(ValueError, match="undone"):
            _queue_and_fail(store)
        store.route("1")
        heard += list(raw.notifies(timeout=5, stop_after=1))
        heard += list(raw.notifies(timeout=0))
        raw.autocommit = False
    assert len(heard) == 1


def test_without_a_server_to_tell_it_a_waiter_looks_for_itself_and_is_told_again_after() -> None:
    with running_postgres() as server:
        database = Database(server.url())
        database.migrate()
        with woken(database, Topic.JOBS) as listener:
            waiter = Waiter(bell_of(listener), 0.05)
            try:
                server.stop(signal.SIGQUIT)
                before = waiter.woken
                wait_for("its own looks", lambda: waiter.woken > before + 5)
                server.start()
                wait_for("a connection", lambda: _listens(server))
                store = Store(database)
                store.arrive("1")
                before, began = waiter.woken, time.monotonic()
                store.route("1")
                wait_for("a notice", lambda: waiter.woken > before)
                assert time.monotonic() - began < 60
            finally:
                waiter.end()
        database.close()


@pytest.mark.parametrize("topic", list(Topic))
def test_on_sqlite_too_what_is_queued_wakes_at_its_commit(
    on_sqlite: Database, topic: Topic
) -> None:
    store, stop = Store(on_sqlite), threading.Event()
    impatient = Doorbell(on_sqlite.file.parent / FOLDER, topic).bell() if on_sqlite.file else None
    assert impatient is not None
    with woken(on_sqlite, topic) as bells:
        bell = bell_of(bells)
        store.arrive("1")
        with pytest.raises(ValueError, match="undone"):
            _queue_and_fail(store)
        assert not impatient.wait(stop, 0.01)
        store.route("1")
        assert bell.wait(stop, 60)
        if topic is Topic.DELIVERIES:
            job = store.claim()
            assert job is not None
            store.finish(job)
            assert bell.wait(stop, 60)


def test_on_a_database_in_memory_nobody_is_told() -> None:
    database = Database("sqlite://")
    with woken(database, Topic.JOBS) as listener:
        assert isinstance(bell_of(listener), Polling)
    database.close()


def _queue_and_fail(store: Store) -> None:
    with store.database.write() as session:
        study = held.find(session, "1.2.3")
        new = NewJob("kl", "1", "w", ["1"], ["pacs"], "route knees")
        jobs.enqueue(session, study, new, store.clock.now())
        raise ValueError("undone")


def _listens(server: Postgres) -> bool:
    return bool(server.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"))
