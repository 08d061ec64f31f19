"""What may be given up: studies that are finished and delivered, oldest first.

A file is given up in two steps. First its row says so, and with it the audit trail; then the file
is removed, unless the same content has come again in between. A process that dies between the two
leaves a file behind that `given_up` finds again.

Where hosts have a data folder each, every one gives up what it holds itself, and what a host held
that was forgotten; nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store import audit
from dicom_node.store.host_tables import Host
from dicom_node.store.tables import (
    Delivery,
    FindingRow,
    Instance,
    Job,
    Report,
    Series,
    Study,
    StudyWord,
)


class Kept(StrEnum):
    """What is kept for a time: a study's images, our result objects, its rows."""

    IMAGES = "images"
    REPORTS = "reports"
    RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is never given up.

    Attributes:
        purge_committed: Images that a sender was told are committed may go.
    """

    purge_committed: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A study that may go, and since when it is finished: settled, analysed, delivered."""

    study_id: int
    study_uid: str
    finished_at: datetime


def finished(
    session: Session,
    kind: Kept,
    rules: Rules,
    before: datetime | None = None,
    host: str | None = None,
) -> list[Finished]:
    """Return the studies that were finished before a time (default: at all), oldest first."""
    query = select(Study.id, Study.study_instance_uid, Study.settled_at).where(
        _may_go(kind, rules, host)
    )
    if before is not None:
        query = query.where(Study.settled_at < before)
    ended = _latest(session, select(Job.study_id, func.max(Job.finished_at)).group_by(Job.study_id))
    sent = _latest(
        session,
        select(Job.study_id, func.max(Delivery.sent_at))
        .join(Report, Report.job_id == Job.id)
        .join(Delivery, Delivery.report_id == Report.id)
        .group_by(Job.study_id),
    )
    found = [
        Finished(row_id, uid, max(filter(None, (settled, ended.get(row_id), sent.get(row_id)))))
        for row_id, uid, settled in session.execute(query)
    ]
    return sorted(
        (item for item in found if before is None or item.finished_at < before),
        key=lambda item: (item.finished_at, item.study_id),
    )


def paths(session: Session, kind: Kept, study_id: int, host: str | None = None) -> list[str]:
    """Return the files that a study has of a kind, relative to their folder."""
    if kind is Kept.IMAGES:
        query = select(Instance.path).where(Instance.study_id == study_id, _here(Instance, host))
        return list(session.scalars(query.order_by(Instance.id)))
    return [
        path
        for report in _reports(session, study_id, _here(Report, host))
        for path in _files(report)
    ]


def give_up(
    session: Session,
    kind: Kept,
    study_id: int,
    rules: Rules,
    now: datetime,
    host: str | None = None,
    **told: Any,
) -> bool:
    """Say of a study's files that they are given up, or delete its rows.

    Args:
        told: What the audit trail is to say of it.

    Returns:
        False: it may not go any more.
    """
    study = session.scalar(
        select(Study).where(Study.id == study_id, _may_go(kind, rules, host)).with_for_update()
    )
    if study is None:
        return False
    uid = study.study_instance_uid
    if kind is Kept.IMAGES:
        rows = session.scalars(
            select(Instance).where(Instance.study_id == study_id, _here(Instance, host))
        )
        for row in rows:
            row.purged_at = now
    elif kind is Kept.REPORTS:
        for report in _reports(session, study_id, _here(Report, host)):
            report.purged_at = now
    else:
        _delete_rows(session, study)
    if host is not None and kind is not Kept.RECORDS:
        told["host"] = host
    audit.record(session, now, f"{kind}_purged", study_uid=uid, **told)
    return True


def given_up(
    session: Session, kind: Kept, study_uids: Sequence[str], host: str | None = None
) -> list[str]:
    """Return the files of some studies that are given up, relative to their folder.

    Of a host those, too, of which another host has a newer copy. To be called in a writing
    transaction, which ends when the files are removed: what comes again meanwhile waits for it.
    """
    if kind is Kept.IMAGES:
        query = (
            select(Instance.path)
            .join(Instance.study)
            .where(Study.study_instance_uid.in_(study_uids), _not_here(Instance, host))
        )
        return list(session.scalars(query.with_for_update()))
    ids = session.scalars(select(Study.id).where(Study.study_instance_uid.in_(study_uids)))
    return [
        path
        for study_id in ids
        for report in _reports(session, study_id, _not_here(Report, host))
        for path in _files(report)
    ]


def removed(session: Session, kind: Kept, study_uids: Sequence[str], host: str) -> None:
    """Say that a host has removed what it had given up of some studies: nobody holds it."""
    ids = select(Study.id).where(Study.study_instance_uid.in_(study_uids))
    jobs = select(Job.id).where(Job.study_id.in_(ids))
    images, made = update(Instance), update(Report)
    statement = (
        images.where(
            Instance.study_id.in_(ids), _with(Instance, host), Instance.purged_at.is_not(None)
        )
        if kind is Kept.IMAGES
        else made.where(Report.job_id.in_(jobs), _with(Report, host), Report.purged_at.is_not(None))
    )
    session.execute(statement.values(host=None).execution_options(synchronize_session=False))


def _here(table: type[Instance] | type[Report], host: str | None) -> ColumnElement[bool]:
    """The file is there, with this host; None: in the folder that all share."""
    return and_(table.purged_at.is_(None), _with(table, host))


def _with(table: type[Instance] | type[Report], host: str | None) -> ColumnElement[bool]:
    """The file is with this host, or with one that was forgotten: whoever looks gives that up."""
    if host is None:
        return table.host.is_(None)
    return or_(table.host == host, table.host.not_in(select(Host.name)))


def _not_here(table: type[Instance] | type[Report], host: str | None) -> ColumnElement[bool]:
    """A file that this host has is one that is given up, or that another one holds now."""
    if host is None:
        return table.purged_at.is_not(None)
    return or_(table.purged_at.is_not(None), table.host != host)


def _may_go(kind: Kept, rules: Rules, host: str | None) -> ColumnElement[bool]:
    """Nothing of it waits: for images, for routing, for a worker, for a peer, for a person."""
    open_job = exists().where(
        Job.study_id == Study.id,
        or_(
            Job.state.in_((JobState.QUEUED, JobState.RUNNING)),
            and_(Job.state == JobState.FAILED, Job.superseded_by.is_(None)),
        ),
    )
    undelivered = exists().where(
        Job.study_id == Study.id,
        Report.job_id == Job.id,
        Delivery.report_id == Report.id,
        or_(
            Delivery.state.in_((DeliveryState.PENDING, DeliveryState.FAILED)),
            # the peer was asked to commit to it, or will be
            and_(Delivery.state == DeliveryState.SENT, Delivery.ask_at.is_not(None)),
        ),
    )
    of_study = and_(Job.study_id == Study.id, Report.job_id == Job.id)
    has_images = exists().where(Instance.study_id == Study.id, _here(Instance, host))
    has_reports = exists().where(of_study, _here(Report, host))
    promised = exists().where(
        Instance.study_id == Study.id,
        Instance.purged_at.is_(None),
        Instance.promised_at.is_not(None),
    )
    conditions = [
        Study.state == StudyState.SETTLED,
        Study.routed_revision == Study.revision,
        Study.held_at.is_(None),
        ~open_job,
        ~undelivered,
    ]
    match kind:
        case Kept.IMAGES:
            conditions.append(has_images)
            if not rules.purge_committed:
                conditions.append(~promised)
        case Kept.REPORTS:
            conditions.append(has_reports)
        case Kept.RECORDS:
            # a host that is away has yet to remove what is given up
            image = or_(Instance.purged_at.is_(None), Instance.host.is_not(None))
            made = or_(Report.purged_at.is_(None), Report.host.is_not(None))
            conditions += [
                ~exists().where(Instance.study_id == Study.id, image),
                ~exists().where(of_study, made),
            ]
    return and_(*conditions)


def _latest(session: Session, query: Any) -> dict[int, datetime]:
    return {study_id: at for study_id, at in session.execute(query) if at is not None}


def _reports(session: Session, study_id: int, which: ColumnElement[bool]) -> list[Report]:
    query = select(Report).join(Report.job).where(Job.study_id == study_id, which)
    return list(session.scalars(query.order_by(Report.id)))


def _files(report: Report) -> list[str]:
    return [report.path, *(other["path"] for other in report.alternatives or ())]


def _delete_rows(session: Session, study: Study) -> None:
    jobs = select(Job.id).where(Job.study_id == study.id)
    reports = select(Report.id).where(Report.job_id.in_(jobs))
    for statement in (
        delete(Delivery).where(Delivery.report_id.in_(reports)),
        delete(Report).where(Report.job_id.in_(jobs)),
        delete(FindingRow).where(FindingRow.job_id.in_(jobs)),
        delete(Job).where(Job.study_id == study.id),
        delete(Instance).where(Instance.study_id == study.id),
        delete(Series).where(Series.study_id == study.id),
        delete(StudyWord).where(StudyWord.study_id == study.id),
        delete(Study).where(Study.id == study.id),
    ):
        session.execute(statement.execution_options(synchronize_session=False))
