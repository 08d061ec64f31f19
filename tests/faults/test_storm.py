"""The crash storm: nothing is lost and nothing comes twice, whatever breaks."""

from __future__ import annotations

import subprocess
import sys

from tests.peers.disk import need_namespace


def test_after_a_crash_storm_every_study_has_its_reports_once(long: bool) -> None:
    need_namespace()
    storm = subprocess.run(
        [sys.executable, "-m", "tests.faults.storm", "--studies", "200" if long else "24"],
        capture_output=True,
        text=True,
        check=False,
    )
    print(storm.stdout)
    assert storm.returncode == 0, storm.stdout + storm.stderr[-5000:]
