"""A fresh spool, clock and indexer for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.studies.indexing import Indexer
from tests.factories import ManualClock


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def indexer(database: Database, spool: Spool, clock: ManualClock) -> Indexer:
    return Indexer(database, spool, clock)
