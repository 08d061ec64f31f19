"""The soak's arithmetic: a leak is told from noise, and from what is meant to grow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.benchmarks.growth import Plan, judge, report
from tests.benchmarks.slopes import Verdict, after_warm_up, slope

HALF_MINUTES = np.arange(60) * 30.0
PLAN = Plan(minutes=30, rate=12, every=30, keep=(3, 5, 7), warm_up=0.4, database="sqlite")


def noise(seed: int, alike: float = 0.0) -> np.ndarray:
    """Sixty samples of standard deviation 1, each like the one before to a degree."""
    rng = np.random.default_rng(seed)
    values = [rng.normal()]
    for _ in HALF_MINUTES[1:]:
        values.append(alike * values[-1] + (1 - alike**2) ** 0.5 * rng.normal())
    return np.array(values)


def test_a_straight_line_has_its_slope_and_no_doubt() -> None:
    found = slope(HALF_MINUTES, 100 + 7.2 * HALF_MINUTES / 3600)
    assert [found.per_hour, found.low, found.high] == pytest.approx([7.2, 7.2, 7.2])
    assert slope(HALF_MINUTES, [5.0] * 60).verdict(0) is Verdict.FLAT


def test_the_interval_of_independent_noise_is_the_textbook_one() -> None:
    # residuals that swing: nothing is to be made wider
    values = np.where(np.arange(60) % 2, 1.0, -1.0) + 0.1 * noise(1)
    found = slope(HALF_MINUTES, values)
    known = stats.linregress(HALF_MINUTES / 3600, values)
    reach = stats.t.ppf(0.975, 58) * known.stderr
    assert found.per_hour == pytest.approx(known.slope)
    assert (found.low, found.high) == pytest.approx((known.slope - reach, known.slope + reach))


@pytest.mark.parametrize("alike", [0.0, 0.7])
def test_the_interval_holds_the_truth_nineteen_times_of_twenty(alike: float) -> None:
    held = 0
    for seed in range(400):
        found = slope(HALF_MINUTES, noise(seed, alike) + 3 * HALF_MINUTES / 3600)
        held += found.low <= 3 <= found.high
    assert 0.90 <= held / 400 <= 0.99


def test_the_warm_up_is_not_judged() -> None:
    values = np.where(HALF_MINUTES < 700, HALF_MINUTES, 700)
    assert slope(HALF_MINUTES, values).verdict(1) is not Verdict.FLAT
    assert slope(*after_warm_up(HALF_MINUTES, values, 0.4)).verdict(1) is Verdict.FLAT


def test_too_few_samples_tell_nothing() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        slope([0, 1, 2], [1, 2, 3])


def test_a_leak_is_found_among_what_stays() -> None:
    hours = HALF_MINUTES / 3600
    leaking = list(720 * hours)  # one row for each study, and none goes
    samples = {
        "seconds": list(HALF_MINUTES),
        "rows of studies": list(90 + 3 * noise(1)),
        "rows of retrievals": leaking,
        "rows of suspects": [0.0] * 60,
        "MB of memory, worker": list(700 + 0.3 * noise(2)),
        "MB of log": list(1.44 * hours),
    }
    found = {name: verdict for name, _, verdict in judge(samples, PLAN)}
    assert found == {
        "rows of studies": "flat",
        "rows of retrievals": "grows",
        "MB of memory, worker": "flat",
        "MB of log": "meant to grow",
    }
    table = report(judge(samples, PLAN), PLAN)
    assert "| MB of log | 0.498 | +1.44 | +1.44 to +1.44 | meant to grow: 0.002 a study |" in table
