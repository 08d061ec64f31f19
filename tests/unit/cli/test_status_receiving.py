"""`status` shows who was refused, and a disk that runs full."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from dicom_node.model.events import ReceiveEvent, ReceiveKind
from dicom_node.serve import disk
from dicom_node.serve.events import AuditSink
from tests.unit.cli.command import dicom_node
from tests.unit.cli.conftest import Ran


def refuse(ran: Ran, calling_ae: str, reason: str, at: datetime) -> None:
    kind = ReceiveKind.ASSOCIATION_REJECTED
    AuditSink(ran.database)(ReceiveEvent(kind, at, calling_ae, "AINODE", "10.0.0.9", reason))


def test_refused_callers_are_counted_the_latest_first(ran: Ran) -> None:
    now = datetime.now(UTC)
    for minutes in (5, 3):
        refuse(ran, "STRANGER", "not known (add it)", now - timedelta(minutes=minutes))
    refuse(ran, "", "it is blank (add it)", now)
    refuse(ran, "OLD", "long ago", now - timedelta(hours=25))
    text = dicom_node("status", "--config", ran.config_file).lines
    lines = [line for line in text if line.startswith("refused: ")]
    assert len(lines) == 2
    assert lines[0].startswith("refused: a caller without a title 10.0.0.9, once, last ")
    assert lines[1].startswith("refused: STRANGER 10.0.0.9, 2 times, last ")
    assert lines[1].endswith(": not known (add it)")
    told = json.loads(dicom_node("status", "--json", "--config", ran.config_file).out)
    assert [item["times"] for item in told["refusals"]] == [1, 2]


@pytest.mark.parametrize(("free", "word"), [(1, "low"), (0, "full")])
def test_a_disk_that_runs_full_is_shown(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, free: int, word: str
) -> None:
    usage = SimpleNamespace(free=free * 1024 * 1024)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    (line,) = [
        line
        for line in dicom_node("status", "--config", ran.config_file).lines
        if line.startswith("disk: ")
    ]
    assert line == (
        f"disk: {word}; {free} MiB free, warned of below 2 MiB, images are refused below 1 MiB"
    )
