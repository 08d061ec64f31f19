"""How each pipeline does in use: how much, how long, and how often it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from statistics import median, quantiles
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.model.states import JobState
from dicom_node.store.tables import Job

ENDED: Final = (JobState.DONE, JobState.NOT_EVALUATED, JobState.FAILED)
_TIMES: Final = 500


@dataclass(frozen=True, slots=True)
class Day:
    """What ended on a day (UTC), by state."""

    day: date
    states: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.states.values())


@dataclass(frozen=True, slots=True)
class PipelineFigures:
    """A pipeline version in use, since a time.

    Attributes:
        states: Number of jobs that ended, by state.
        median_seconds: From the start to the end of the last jobs; None: none has ended.
        p95_seconds: Of 20 jobs or more; None: too few.
        devices: Where the last jobs ran, by number.
    """

    pipeline: str
    version: str
    states: Mapping[str, int]
    last_at: datetime | None
    median_seconds: float | None
    p95_seconds: float | None
    devices: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.states.values())

    def share(self, state: str) -> float | None:
        """Return which part of the jobs ended so, 0..1; None: none has ended."""
        return self.states.get(state, 0) / self.total if self.total else None


def in_use(session: Session, since: datetime) -> list[PipelineFigures]:
    """Return each pipeline version of which a job ended since a time, the latest first."""
    states: dict[tuple[str, str], dict[str, int]] = {}
    last: dict[tuple[str, str], datetime] = {}
    # pair by pair, each is answered from the index alone
    for pipeline, version in session.execute(select(Job.pipeline, Job.version).distinct()).all():
        rows = session.execute(
            select(Job.state, func.count(), func.max(Job.finished_at))
            .where(
                Job.pipeline == pipeline,
                Job.version == version,
                Job.state.in_(ENDED),
                Job.finished_at >= since,
            )
            .group_by(Job.state)
        )
        for state, number, at in rows:
            states.setdefault((pipeline, version), {})[state] = number
            last[pipeline, version] = max(at, last.get((pipeline, version), at))
    return [
        _figures(session, *key, states[key], last[key])
        for key in sorted(states, key=lambda key: last[key], reverse=True)
    ]


def by_day(session: Session, pipeline: str, since: datetime) -> list[Day]:
    """Return what ended on each day since a time, oldest first; days without any left out."""
    day = func.date(Job.finished_at)
    rows = session.execute(
        select(day, Job.state, func.count())
        .where(Job.pipeline == pipeline, Job.finished_at >= since, Job.state.in_(ENDED))
        .group_by(day, Job.state)
        .order_by(day)
    )
    found: dict[date, dict[str, int]] = {}
    for at, state, number in rows:
        found.setdefault(date.fromisoformat(str(at)), {})[state] = number
    return [Day(at, states) for at, states in found.items()]


def _figures(
    session: Session, pipeline: str, version: str, states: Mapping[str, int], last: datetime
) -> PipelineFigures:
    rows = session.execute(
        select(Job.started_at, Job.finished_at, Job.run_record["device_name"].as_string())
        .where(
            Job.pipeline == pipeline,
            Job.version == version,
            Job.state.in_((JobState.DONE, JobState.NOT_EVALUATED)),
            Job.finished_at.is_not(None),
        )
        .order_by(Job.finished_at.desc())
        .limit(_TIMES)
    ).all()
    took = [(end - start).total_seconds() for start, end, _ in rows if start and end]
    devices: dict[str, int] = {}
    for _, _, device in rows:
        if device:
            devices[device] = devices.get(device, 0) + 1
    return PipelineFigures(
        pipeline,
        version,
        states,
        last,
        median(took) if took else None,
        quantiles(took, n=20)[-1] if len(took) >= 20 else None,
        devices,
    )
