from __future__ import annotations

import numpy as np
import pytest

from pipelines.transforms.lumbar_levels import LevelUncertainError, name_levels

GRID = 4.0


def _column(bodies: list[tuple[float, float]], height: int = 90, s1: bool = True) -> np.ndarray:
    """Maps of upright boxes given by (bottom, top) in mm; the first is S1 if `s1`."""
    maps = np.zeros((3, 40, 50, height), np.float32)
    z = np.arange(height) * GRID
    for index, (low, high) in enumerate(bodies):
        channel = 1 if s1 and index == 0 else 0
        maps[channel, 14:26, 12:20, (z >= low) & (z < high)] = 1.0
        if index:
            gap = (z >= bodies[index - 1][1]) & (z < low)
            maps[2, 14:26, 12:20, gap] = 1.0
    return maps


def _stack(count: int, start: float = 40.0, step: float = 36.0) -> list[tuple[float, float]]:
    return [(start + k * step, start + k * step + 28) for k in range(count)]


def test_vertebrae_are_named_upwards_from_s1() -> None:
    levels = name_levels(_column(_stack(8)), GRID)
    assert [level.name for level in levels][:6] == ["L5", "L4", "L3", "L2", "L1", "T12"]


def test_each_centre_lies_in_the_middle_of_its_body() -> None:
    bodies = _stack(8)
    for level, (low, high) in zip(name_levels(_column(bodies), GRID)[:5], bodies[1:], strict=False):
        assert level.centre[2] * GRID == pytest.approx((low + high) / 2 - 2, abs=4)
        assert level.centre[0] == pytest.approx(19.5, abs=0.6)


def test_without_s1_no_level_is_named() -> None:
    with pytest.raises(LevelUncertainError, match="sacrum"):
        name_levels(_column(_stack(8), s1=False), GRID)


def test_a_missed_vertebra_makes_the_level_uncertain() -> None:
    bodies = _stack(8)
    del bodies[3]
    maps = _column(bodies)
    with pytest.raises(LevelUncertainError, match=r"apart|jump"):
        name_levels(maps, GRID)


def test_an_empty_volume_is_uncertain() -> None:
    with pytest.raises(LevelUncertainError, match="no vertebral column"):
        name_levels(np.zeros((3, 20, 20, 20), np.float32), GRID)


def test_a_body_cut_by_the_top_of_the_volume_is_incomplete() -> None:
    bodies = _stack(6)
    top = int((bodies[5][0] + 16) / GRID)
    levels = name_levels(_column(bodies)[..., :top], GRID)
    by_name = {level.name: level for level in levels}
    assert by_name["L2"].complete
    assert "L1" not in by_name or not by_name["L1"].complete
