"""A fresh spool and clock for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.store.spool import Spool
from tests.factories import ManualClock


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data" / "spool")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
