"""What watches a receiver from outside connects to its port and says nothing: no trace of that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from tests.integration.test_receive_dcmtk import Running, start
from tests.peers.ports import wait_for

CHECK = Path(__file__).parents[3] / "deploy" / "container" / "healthcheck.py"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    yield from start(tmp_path, promiscuous=True)


def test_a_probe_of_the_dicom_port_leaves_neither_an_event_nor_a_log_line(
    running: Running,
) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            told = subprocess.run(
                [sys.executable, CHECK],
                env={**os.environ, "DICOM_NODE_HEALTH_PORT": str(running.port)},
                capture_output=True,
                check=False,
            )
            assert told.returncode == 0, told.stderr
        wait_for("the connections' end", lambda: running.receiver.associations == 0)
    assert running.events == []
    assert logs == []
