"""What arrives is indexed at once when its sender has gone, and otherwise when it pauses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.serve.arrivals import Arrivals
from dicom_node.store.doorbell import Doorbell
from tests.peers.ports import wait_for


class Looks:
    """An indexer that says how it was asked."""

    def __init__(self) -> None:
        self.in_pauses = threading.Event()
        self.at_once = threading.Event()
        self.fails = False

    def index_when_quiet(self) -> int:
        self.in_pauses.set()
        return 0

    def index_waiting(self) -> int:
        if self.fails:
            self.fails = False
            raise OSError("the disk is away")
        self.at_once.set()
        return 1


@pytest.fixture
def bell(tmp_path: Path) -> Doorbell:
    return Doorbell(tmp_path / "wake", "arrivals")


@pytest.fixture
def looks(bell: Doorbell) -> Iterator[Looks]:
    indexer: Any = Looks()
    arrivals = Arrivals(indexer, bell)
    arrivals.start()
    yield indexer
    arrivals.stop()


def test_it_looks_by_itself(looks: Looks) -> None:
    assert looks.in_pauses.wait(30)
    assert not looks.at_once.is_set()


def test_it_indexes_when_a_sender_has_gone_also_after_an_error(
    looks: Looks, bell: Doorbell
) -> None:
    assert looks.in_pauses.wait(30)
    looks.fails = True
    with capture_logs() as logs:
        bell.ring()
        wait_for("the error", lambda: any("failures_in_a_row" in entry for entry in logs))
    bell.ring()
    assert looks.at_once.wait(30)
