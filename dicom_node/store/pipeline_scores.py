"""What each pipeline answers in use, week by week, against its first answers: drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from statistics import fmean, quantiles
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.model.states import JobState
from dicom_node.store.tables import FindingRow, Job

_REFERENCE: Final = 200
"""Jobs that later ones are compared with."""
_OF_A_WEEK: Final = 150
_BINS: Final = 5


@dataclass(frozen=True, slots=True)
class Week:
    """What a pipeline answered in a week that begins at `start`.

    Attributes:
        shares: Of each part of the scale; they sum to 1.
        psi: Population stability index against the reference; None: too few to tell.
        mean: Of the measured values; of a classification, of the highest probability.
        mean_set_size: Of the prediction sets; None: it makes none.
    """

    start: date
    number: int
    shares: Sequence[float]
    psi: float | None
    mean: float
    mean_set_size: float | None


@dataclass(frozen=True, slots=True)
class Scores:
    """What a pipeline answered to one question, week by week.

    Attributes:
        parts: What the shares are of: labels, or ranges of the measured value.
        reference: The same shares of the first answers of this version.
        reference_number: How many those are.
    """

    question: str
    unit: str
    parts: Sequence[str]
    reference: Sequence[float]
    reference_number: int
    weeks: Sequence[Week]


def scores(
    session: Session, pipeline: str, version: str, since: datetime, now: datetime
) -> list[Scores]:
    """Return what a version answered to each of its questions, against its first answers.

    Of each week the first 150 studies are looked at.
    """
    mine = (Job.pipeline == pipeline, Job.version == version, Job.state == JobState.DONE)
    first = select(Job.id).where(*mine).order_by(Job.finished_at).limit(_REFERENCE)
    later: list[int] = []
    for begin, end in _weeks(since, now):
        week = select(Job.id).where(*mine, Job.finished_at >= begin, Job.finished_at < end)
        later += session.scalars(week.order_by(Job.finished_at).limit(_OF_A_WEEK))
    reference = _answers(session, list(session.scalars(first)))
    recent = _answers(session, later)
    return [
        _scores(question, reference[question], recent.get(question, []))
        for question in sorted(reference)
    ]


def stability_index(expected: Sequence[float], found: Sequence[float]) -> float:
    """Return the population stability index of two distributions over the same parts.

    Below 0.1 is usually called stable, above 0.25 a shift (Siddiqi, Credit Risk Scorecards,
    Wiley 2006). An empty part counts as one in ten thousand.
    """
    least = 1e-4
    pairs = [(max(e, least), max(f, least)) for e, f in zip(expected, found, strict=True)]
    return sum((f - e) * math.log(f / e) for e, f in pairs)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One finding: probabilities of `labels`, or a value in `unit`."""

    at: datetime
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    value: float
    unit: str
    set_size: int


def _weeks(since: datetime, now: datetime) -> list[tuple[datetime, datetime]]:
    """Return the weeks, from Monday on (UTC), that a time falls into."""
    day = since.replace(hour=0, minute=0, second=0, microsecond=0)
    begin = day - timedelta(days=day.weekday())
    found = []
    while begin <= now:
        found.append((max(begin, since), begin + timedelta(days=7)))
        begin += timedelta(days=7)
    return found


def _answers(session: Session, jobs: Sequence[int]) -> dict[str, list[_Answer]]:
    found: dict[str, list[_Answer]] = {}
    for begin in range(0, len(jobs), 500):
        data = FindingRow.data
        rows = session.execute(
            select(
                Job.finished_at,
                FindingRow.kind,
                data[("question", "meaning")].as_string(),
                data[("concept", "meaning")].as_string(),
                data["labels"].as_json(),
                data["probabilities"].as_json(),
                data["prediction_set"].as_json(),
                data["value"].as_float(),
                data[("unit", "value")].as_string(),
                data["rule"].as_string(),
            )
            .join(Job, Job.id == FindingRow.job_id)
            .where(
                FindingRow.job_id.in_(jobs[begin : begin + 500]),
                FindingRow.kind.in_(("classification", "measurement")),
            )
        )
        for at, kind, question, concept, labels, probabilities, chosen, value, unit, rule in rows:
            if kind == "classification" and probabilities and not rule:
                answer = _Answer(
                    at,
                    tuple(_label(item) for item in labels),
                    tuple(map(float, probabilities)),
                    max(map(float, probabilities)),
                    "",
                    len(chosen or ()),
                )
                found.setdefault(question, []).append(answer)
            elif kind == "measurement" and value is not None:
                answer = _Answer(at, (), (), float(value), unit or "", 0)
                found.setdefault(concept, []).append(answer)
    return found


def _label(item: Any) -> str:
    return str(item.get("text") or item["code"]["meaning"])


def _scores(question: str, reference: Sequence[_Answer], recent: Sequence[_Answer]) -> Scores:
    sample = reference[0]
    edges = [] if sample.labels else _edges([item.value for item in reference])
    alike = [item for item in recent if item.labels == sample.labels]
    reference = [item for item in reference if item.labels == sample.labels]
    expected = _shares(reference, edges)
    weeks: dict[date, list[_Answer]] = {}
    for item in alike:
        day = item.at.date()
        weeks.setdefault(day - timedelta(days=day.weekday()), []).append(item)
    parts = sample.labels or _ranges(edges)
    return Scores(
        question,
        sample.unit,
        parts,
        expected,
        len(reference),
        [_week(start, items, edges, expected) for start, items in sorted(weeks.items())],
    )


def _week(
    start: date, items: Sequence[_Answer], edges: Sequence[float], expected: Sequence[float]
) -> Week:
    shares = _shares(items, edges)
    sizes = [item.set_size for item in items if item.set_size]
    # with few answers in each part the index only shows chance
    enough = len(items) >= 5 * len(expected)
    return Week(
        start,
        len(items),
        shares,
        stability_index(expected, shares) if enough else None,
        fmean(item.value for item in items),
        fmean(sizes) if sizes else None,
    )


def _shares(items: Sequence[_Answer], edges: Sequence[float]) -> list[float]:
    """Return the mean probability of each label, or how many values fall into each range."""
    if items[0].labels:
        return [fmean(column) for column in zip(*(i.probabilities for i in items), strict=True)]
    counts = [0] * (len(edges) + 1)
    for item in items:
        counts[sum(item.value >= edge for edge in edges)] += 1
    return [count / len(items) for count in counts]


def _edges(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return []
    return sorted(set(quantiles(values, n=_BINS)))


def _ranges(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["any"]
    inner = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:.3g}", *inner, f"{edges[-1]:.3g} or more"]
