"""The disk's watermarks: told once when passed, in log, audit trail and status."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from dicom_node.serve import disk
from dicom_node.serve.disk import DiskLevel, DiskWatch, disk_state
from dicom_node.store.database import Database
from tests.factories import ManualClock
from tests.unit.serve.small_node import config_in, events

NODE = {"ae_title": "AINODE", "data_dir": "data", "min_free_mb": 100, "warn_free_mb": 300}


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The disk's free MiB, to be changed."""
    room = SimpleNamespace(mb=1000)
    monkeypatch.setattr(
        disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=room.mb * 1024 * 1024)
    )
    return room


@pytest.mark.parametrize(
    ("mb", "level"),
    [(300, DiskLevel.OK), (299, DiskLevel.LOW), (100, DiskLevel.LOW), (99, DiskLevel.FULL)],
)
def test_the_level_follows_the_watermarks(
    tmp_path: Path, free: SimpleNamespace, mb: int, level: DiskLevel
) -> None:
    free.mb = mb
    assert disk_state(config_in(tmp_path, node=NODE)).level is level


def test_each_watermark_is_told_once(
    tmp_path: Path, database: Database, free: SimpleNamespace
) -> None:
    watch = DiskWatch(config_in(tmp_path, node=NODE), database, ManualClock())
    with capture_logs() as logs:
        for mb in (1000, 200, 250, 50, 50, 1000):
            free.mb = mb
            watch.watch_disk()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("disk_low", "warning"),
        ("disk_full", "warning"),
        ("disk_ok", "info"),
    ]
    assert events(database, "disk_full") == [{"free_mb": 50}]
