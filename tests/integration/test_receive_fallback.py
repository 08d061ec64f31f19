"""With a pynetdicom that was not tested, the receiver falls back on that library's own way."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.receive import server
from tests.factories import radiograph
from tests.integration.test_receive_dcmtk import start
from tests.peers.dcmtk import storescu


def test_another_version_is_told_and_images_are_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "pynetdicom_version", "9.9.9")
    file = tmp_path / "film.dcm"
    radiograph().save_as(file, enforce_file_format=True)
    with capture_logs() as logs:
        for running in start(tmp_path):
            done = storescu(running.port, [file], "-aec", "AINODE", "-aet", "XR")
            assert done.returncode == 0, done.stderr
            assert len(running.spool.waiting()) == 1
    told = {line["event"]: line for line in logs}
    assert told["pynetdicom_not_tested"]["version"] == "9.9.9"
    assert told["receiver_listens"]["stock"] is True
