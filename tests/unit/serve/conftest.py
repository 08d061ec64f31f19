"""A fresh database, spool and clock for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from tests.factories import ManualClock


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'data' / 'node.sqlite3'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data" / "spool")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
