"""One dead and one slow peer of three: the third gets its reports as if they were well."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.delivery import measure


def test_a_dead_and_a_slow_peer_do_not_hold_up_the_third(tmp_path: Path) -> None:
    (tmp_path / "well").mkdir()
    (tmp_path / "sick").mkdir()
    well = measure(tmp_path / "well", 15, sick=False)
    sick = measure(tmp_path / "sick", 15, sick=True)
    # all of the third's 30 objects are there while the dead one has none, the slow one a few
    assert len(sick.latencies) == 30
    assert sick.left["first"] == 30
    assert sick.left["second"] > 0
    assert sick.median < 3 * well.median, (well, sick)
