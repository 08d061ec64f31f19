"""Which quantities of a soaked node may grow, by how much, and whether they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.slopes import Slope, after_warm_up, slope

_STAYS: Final = 0.05
"""Share of what comes in that may stay and still be no growth: of rows, files and their bytes."""
_MEANT: Final = "meant to grow"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run.

    Attributes:
        rate: Studies a minute.
        every: Seconds between two samples.
        keep: Minutes that images, reports and records are kept; no records: for ever.
        warm_up: Share of the time that is not judged.
    """

    minutes: float
    rate: float
    every: float
    keep: tuple[float, ...]
    warm_up: float
    database: str

    def retention(self) -> dict[str, float]:
        """Return it as node.yaml has it."""
        names = ("images_days", "reports_days", "records_days")
        return {name: minutes / 1440 for name, minutes in zip(names, self.keep, strict=False)}


def allowed(name: str, mean: float, plan: Plan) -> float | None:
    """Return what a quantity may grow in an hour; None: it is meant to grow.

    Rows and files: a share of what comes in, which is what is there over how long it is kept.
    """
    what = name.partition(" of ")[0]
    if name == "MB of log" or (len(plan.keep) < 3 and name.startswith(("rows", "MB of database"))):
        return None
    if name.startswith("MB of memory"):
        return max(2.0, 0.02 * mean)
    if name == "MB of database":
        return max(0.5, 0.05 * mean)
    if what in ("rows", "files", "folders", "MB"):
        return max(1.0, _STAYS * mean * 60 / max(plan.keep))
    return 1.0


def judge(samples: Mapping[str, Sequence[float]], plan: Plan) -> list[tuple[str, Slope, str]]:
    """Return each quantity that ever was more than nothing, its slope and its verdict."""
    found = []
    for name, values in samples.items():
        if name == "seconds" or not any(values):
            continue
        line = slope(*after_warm_up(samples["seconds"], values, plan.warm_up))
        most = allowed(name, line.mean, plan)
        found.append((name, line, _MEANT if most is None else str(line.verdict(most))))
    return found


def report(found: Sequence[tuple[str, Slope, str]], plan: Plan) -> str:
    """Write the table; of what is meant to grow it says by how much with each study."""
    lines = ["| quantity | mean | an hour | 95 % interval | verdict |", "|---|---|---|---|---|"]
    for name, line, verdict in found:
        said = verdict
        if verdict == _MEANT:
            said += f": {line.per_hour / (plan.rate * 60):.3g} a study"
        between = f"{_signed(line.low)} to {_signed(line.high)}"
        lines.append(
            f"| {name} | {line.mean:.4g} | {_signed(line.per_hour)} | {between} | {said} |"
        )
    return "\n".join(lines)


def _signed(number: float) -> str:
    return "0" if abs(number) < 0.0005 else f"{number:+.3g}"
