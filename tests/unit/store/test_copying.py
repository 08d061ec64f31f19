"""A node that outgrows SQLite takes all that it knows along."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.errors import StoreError
from dicom_node.store import chain, chain_check, copying, jobs
from dicom_node.store.database import Database
from dicom_node.store.tables import Base, Delivery
from tests.peers.databases import sqlite_url
from tests.unit.store.lifecycles import Store


def test_every_row_comes_along_and_new_ones_come_behind(database: Database, tmp_path: Path) -> None:
    old = Database(sqlite_url(tmp_path / "old"))
    old.migrate()
    store = Store(old)
    for study in range(1, 4):
        store.arrive(f"1.2.{study}.1", study=f"1.2.{study}")
        store.route(f"1.2.{study}.1", study=f"1.2.{study}")
    job = store.claim()
    assert job is not None
    store.finish(job)
    with old.write() as session:
        chain.put(session, chain.next_links(session))
        sealed = chain.head(session)

    copied = copying.copy(old, database)

    assert copied["studies"] == 3
    with old.read() as before, database.read() as after:
        for table in Base.metadata.sorted_tables:
            query = select(table).order_by(*table.primary_key.columns)
            assert after.execute(query).all() == before.execute(query).all(), table.name
        assert chain_check.verify(after, sealed).whole
        assert after.scalars(select(Delivery)).all()
    grown = Store(database)
    grown.arrive("1.2.9.1", study="1.2.9")
    with database.write() as session:
        assert jobs.claim(session, "worker-0", grown.clock.now(), timedelta(seconds=9)) is not None
    old.close()


def test_a_database_that_is_in_use_is_not_overwritten(database: Database, tmp_path: Path) -> None:
    old = Database(sqlite_url(tmp_path / "old"))
    old.migrate()
    Store(database).arrive("1")
    with pytest.raises(StoreError, match="is not empty"):
        copying.copy(old, database)
    old.close()
