"""A fresh spool, clock and small node for each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset

from dicom_node.serve.coordinator import Coordinator
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from tests.factories import ManualClock, radiograph
from tests.unit.serve.small_node import Make, bundle, config_in
from tests.unit.serve.worker_node import Node


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data" / "spool")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def image() -> FileDataset:
    return radiograph(study="1.2.3")


@pytest.fixture
def node(
    tmp_path: Path, database: Database, spool: Spool, clock: ManualClock, image: FileDataset
) -> Node:
    """A node with one image and a job on it."""
    node = Node(tmp_path, database, spool, clock)
    node.receive(image)
    node.queue(str(image.SOPInstanceUID))
    return node


@pytest.fixture
def make(tmp_path: Path, database: Database, spool: Spool, clock: ManualClock) -> Make:
    """Make a coordinator of the small node, its configuration changed by section."""

    def one(**sections: Any) -> Coordinator:
        config = config_in(tmp_path, **sections)
        return Coordinator(config, {"tiny": bundle(tmp_path)}, database, spool, clock)

    return one
