"""Finding studies among hundreds of thousands: newest first, fifty at a time.

Each condition is put in one of two ways. Of one that few studies fulfil they are all looked up,
by its own index, and the rest is checked on those; one that many fulfil is checked study by
study, from the newest on, until a page is full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store.tables import Delivery, Instance, Job, Report, Study, StudyWord
from dicom_node.store.words import split

PAGE: Final = 50
_FEW: Final = 2000
_LAST: Final = "\U0010ffff"
"""Sorts behind every letter."""


class Condition(StrEnum):
    """What became of a study, as a person asks for it."""

    ATTENTION = "attention"
    HELD = "held"
    RECEIVING = "receiving"
    WAITING = "waiting"
    DONE = "done"
    NOT_EVALUATED = "not evaluated"
    FAILED = "failed"
    UNDELIVERED = "undelivered"
    NOT_ROUTED = "not routed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; "" and None: anything.

    Attributes:
        text: Words of the patient's name, patient id, accession number, or the beginning of
            a Study Instance UID; each of them must fit.
        with_patients: The words may tell who the patient is.
        sender: AE title that it came from.
        peer: Name of a peer that reports on it go to.
        since, until: Study dates, YYYYMMDD, both included.
        before: Only studies that come after this one in the list: the key of the next page.
    """

    text: str = ""
    with_patients: bool = False
    sender: str = ""
    peer: str = ""
    condition: Condition | None = None
    since: str = ""
    until: str = ""
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One line of the list; `conditions` says what became of it, the most pressing first."""

    id: int
    study_uid: str
    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    modality: str
    sender: str
    first_instance_at: datetime
    last_instance_at: datetime
    instances: int
    pipelines: tuple[str, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the studies found; `next_before` is the key of the page after it, if any."""

    lines: tuple[Found, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True)
class _Test:
    """A condition in both ways: the ids of those that fulfil it, and the question of each."""

    ids: Select[Any]
    each: ColumnElement[bool]


def find(session: Session, wanted: Wanted, limit: int = PAGE) -> Page:
    """Return a page of the studies that fit, the newest first."""
    query = select(
        Study.id,
        Study.study_instance_uid,
        Study.patient_id,
        Study.patient_name,
        Study.accession_number,
        Study.study_date,
        Study.modality,
        Study.sender,
        Study.first_instance_at,
        Study.last_instance_at,
        Study.state,
        Study.held_at,
        Study.unrouted_reason,
    )
    few: set[int] | None = None
    for test in _tests(wanted):
        those = set(session.scalars(test.ids.limit(_FEW + 1)))
        if len(those) > _FEW:
            query = query.where(test.each)
        else:
            few = those if few is None else few & those
    if few is not None:
        query = query.where(Study.id.in_(few))
    if wanted.before is not None:
        query = query.where(Study.id < wanted.before)
    rows = session.execute(query.order_by(Study.id.desc()).limit(limit + 1)).all()
    shown = rows[:limit]
    ids = [row.id for row in shown]
    images = _counts(session, ids)
    jobs = _jobs(session, ids)
    unsent = _unsent(session, ids)
    lines = tuple(
        Found(
            id=row.id,
            study_uid=row.study_instance_uid,
            patient_id=row.patient_id,
            patient_name=row.patient_name,
            accession_number=row.accession_number,
            study_date=row.study_date,
            modality=row.modality,
            sender=row.sender,
            first_instance_at=row.first_instance_at,
            last_instance_at=row.last_instance_at,
            instances=images.get(row.id, 0),
            pipelines=tuple(dict.fromkeys(name for name, _ in jobs.get(row.id, []))),
            conditions=_conditions(row, {state for _, state in jobs.get(row.id, [])}, unsent),
        )
        for row in shown
    )
    return Page(lines, ids[-1] if len(rows) > limit else None)


def senders(session: Session) -> list[str]:
    """Return the AE titles that studies came from, each found by one step in the index."""
    found: list[str] = []
    last = ""
    while len(found) < 200:
        following = session.scalar(
            select(Study.sender).where(Study.sender > last).order_by(Study.sender).limit(1)
        )
        if following is None:
            break
        found.append(following)
        last = following
    return found


def _tests(wanted: Wanted) -> Iterator[_Test]:
    for word in split(wanted.text):
        yield _word(word, with_patients=wanted.with_patients)
    if wanted.sender:
        yield _plain(Study.sender == wanted.sender)
    if wanted.since:
        yield _plain(Study.study_date >= wanted.since)
    if wanted.until:
        yield _plain(and_(Study.study_date <= wanted.until, Study.study_date != ""))
    if wanted.peer:
        yield _of_deliveries(Delivery.peer == wanted.peer)
    if wanted.condition is not None:
        yield _condition(wanted.condition)


def _word(word: str, *, with_patients: bool) -> _Test:
    in_range = and_(StudyWord.word >= word, StudyWord.word < word + _LAST)
    if not with_patients:
        in_range = and_(in_range, StudyWord.is_patient.is_(False))
    by_word = select(StudyWord.study_id).where(in_range)
    each = exists().where(StudyWord.study_id == Study.id, in_range)
    if not set(word) <= set("0123456789."):
        return _Test(by_word, each)
    is_uid = and_(Study.study_instance_uid >= word, Study.study_instance_uid < f"{word}:")
    return _Test(by_word.union_all(select(Study.id).where(is_uid)), or_(each, is_uid))  # type: ignore[arg-type]


def _condition(condition: Condition) -> _Test:
    match condition:
        case Condition.HELD:
            return _plain(Study.held_at.is_not(None))
        case Condition.RECEIVING:
            return _plain(Study.state == StudyState.RECEIVING)
        case Condition.NOT_ROUTED:
            return _plain(Study.unrouted_reason.is_not(None))
        case Condition.WAITING:
            return _of_jobs(Job.state.in_((JobState.QUEUED, JobState.RUNNING)))
        case Condition.DONE:
            return _of_jobs(and_(Job.state == JobState.DONE, Job.superseded_by.is_(None)))
        case Condition.NOT_EVALUATED:
            return _of_jobs(and_(Job.state == JobState.NOT_EVALUATED, Job.superseded_by.is_(None)))
        case Condition.FAILED:
            return _of_jobs(and_(Job.state == JobState.FAILED, Job.superseded_by.is_(None)))
        case Condition.UNDELIVERED:
            return _of_deliveries(Delivery.state == DeliveryState.FAILED)
        case Condition.ATTENTION:
            parts = [
                _condition(Condition.HELD),
                _condition(Condition.FAILED),
                _condition(Condition.UNDELIVERED),
            ]
            ids = parts[0].ids.union_all(*(part.ids for part in parts[1:]))
            return _Test(select(ids.subquery().c[0]), or_(*(part.each for part in parts)))


def _plain(condition: ColumnElement[bool]) -> _Test:
    return _Test(select(Study.id).where(condition), condition)


def _of_jobs(condition: ColumnElement[bool]) -> _Test:
    return _Test(
        select(Job.study_id).where(condition), exists().where(Job.study_id == Study.id, condition)
    )


def _of_deliveries(condition: ColumnElement[bool]) -> _Test:
    joined = select(Job.study_id).join(Report, Report.job_id == Job.id)
    ids = joined.join(Delivery, Delivery.report_id == Report.id).where(condition)
    each = exists().where(
        Job.study_id == Study.id,
        Report.job_id == Job.id,
        Delivery.report_id == Report.id,
        condition,
    )
    return _Test(ids, each)


def _counts(session: Session, ids: Sequence[int]) -> dict[int, int]:
    rows = session.execute(
        select(Instance.study_id, func.count())
        .where(Instance.study_id.in_(ids))
        .group_by(Instance.study_id)
    )
    return dict(rows.tuples().all())


def _jobs(session: Session, ids: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
    rows = session.execute(
        select(Job.study_id, Job.pipeline, Job.state)
        .where(Job.study_id.in_(ids), Job.superseded_by.is_(None))
        .order_by(Job.id)
    )
    found: dict[int, list[tuple[str, str]]] = {}
    for study_id, pipeline, state in rows:
        found.setdefault(study_id, []).append((pipeline, state))
    return found


def _unsent(session: Session, ids: Sequence[int]) -> set[int]:
    rows = session.scalars(
        select(Job.study_id)
        .join(Report, Report.job_id == Job.id)
        .join(Delivery, Delivery.report_id == Report.id)
        .where(Job.study_id.in_(ids), Delivery.state == DeliveryState.FAILED)
        .distinct()
    )
    return set(rows)


def _conditions(row: Any, states: set[str], unsent: set[int]) -> tuple[Condition, ...]:
    found = [
        (Condition.HELD, row.held_at is not None),
        (Condition.FAILED, JobState.FAILED in states),
        (Condition.UNDELIVERED, row.id in unsent),
        (Condition.RECEIVING, row.state == StudyState.RECEIVING),
        (Condition.WAITING, bool(states & {JobState.QUEUED, JobState.RUNNING})),
        (Condition.NOT_ROUTED, row.unrouted_reason is not None),
        (Condition.NOT_EVALUATED, JobState.NOT_EVALUATED in states),
        (Condition.DONE, JobState.DONE in states),
    ]
    return tuple(condition for condition, holds in found if holds) or (Condition.WAITING,)
