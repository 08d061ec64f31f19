"""One coordinator leads, whatever hosts there are; when its connection ends, another does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dicom_node.serve.leading import Leadership
from dicom_node.store.database import Database
from dicom_node.store.postgres import LEADER_LOCK
from tests.peers.ports import wait_for
from tests.peers.postgres import Postgres


@pytest.fixture
def hosts(postgres: Postgres) -> Iterator[tuple[Leadership, Leadership]]:
    """Two hosts on one database."""
    url = postgres.new_database()
    databases = Database(url), Database(url)
    one, other = (Leadership(database) for database in databases)
    yield one, other
    for leadership, database in zip((one, other), databases, strict=True):
        leadership.close()
        database.close()
    postgres.drop(url)


def test_only_one_leads_until_it_leaves(hosts: tuple[Leadership, Leadership]) -> None:
    one, other = hosts
    assert one.take()
    assert one.take()
    assert not other.take()
    one.close()
    assert other.take()


def test_who_leaves_after_the_connection_ended_lets_go_all_the_same(
    hosts: tuple[Leadership, Leadership], postgres: Postgres
) -> None:
    one, other = hosts
    assert one.take()
    _end_the_connection_with_the_lock(postgres)
    one.close()
    wait_for("the other's turn", other.take)


def test_a_leader_whose_connection_ends_stops_and_another_leads(
    hosts: tuple[Leadership, Leadership], postgres: Postgres
) -> None:
    one, other = hosts
    turn = threading.Event()
    assert one.take()
    with one.watched(turn):
        assert not turn.is_set()
        _end_the_connection_with_the_lock(postgres)
        assert turn.wait(30)
    wait_for("the other's turn", other.take)
    assert not one.take()


def test_who_is_told_to_stop_waits_no_more(hosts: tuple[Leadership, Leadership]) -> None:
    one, other = hosts
    assert one.take()
    stop = threading.Event()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(other.wait(stop)))
    thread.start()
    stop.set()
    thread.join(30)
    assert found == [False]


def test_on_sqlite_the_lock_on_the_data_folder_is_enough() -> None:
    database = Database("sqlite://")
    assert Leadership(database).take()
    assert Leadership(database).take()
    database.close()


def _end_the_connection_with_the_lock(postgres: Postgres) -> None:
    key = "(classid::bigint << 32 | objid::bigint)"
    postgres.query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks "
        f"WHERE locktype = 'advisory' AND {key} = {LEADER_LOCK}"
    )
