"""The crash storm: nothing is lost and nothing comes twice, whatever breaks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.peers.disk import may_mount


def test_after_a_crash_storm_every_study_has_its_reports_once(long: bool) -> None:
    if not may_mount():
        pytest.skip("this kernel lets us have no mount namespace of our own")
    storm = subprocess.run(
        [sys.executable, "-m", "tests.faults.storm", "--studies", "200" if long else "24"],
        capture_output=True,
        text=True,
        check=False,
    )
    print(storm.stdout)
    assert storm.returncode == 0, storm.stdout + storm.stderr[-5000:]
