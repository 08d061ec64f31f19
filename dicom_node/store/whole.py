"""One study as a whole: its series, its jobs with what they found, its objects and their way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.model.instances import InstanceFacts
from dicom_node.store.kept import KeptFile, KeptKind, kept_report
from dicom_node.store.tables import (
    Delivery,
    FindingRow,
    Instance,
    Job,
    Report,
    Series,
    Study,
)


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One series, described by its first image."""

    series_uid: str
    modality: str
    description: str
    images: int
    purged: int


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One object's way to one peer."""

    peer: str
    state: str
    attempts: int
    queued_at: datetime
    next_attempt_at: datetime
    sent_at: datetime | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One object that was made.

    Attributes:
        is_there: Its file has not been purged.
        host: Who holds the file; None: it is in the folder that all hosts share.
    """

    id: int
    kind: str
    sop_instance_uid: str
    path: str
    is_there: bool
    deliveries: tuple[DeliveryLine, ...]
    sha256: str
    host: str | None

    @property
    def kept(self) -> KeptFile:
        return KeptFile(KeptKind.REPORT, self.id, self.path, self.sha256, self.host)


@dataclass(frozen=True, slots=True)
class JobPart:
    """One job; `findings` are kinds with their plain data, `statement` the sentence of them."""

    id: int
    pipeline: str
    version: str
    state: str
    attempts: int
    reason: str
    rejection: str | None
    error: dict[str, Any] | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    superseded_by: int | None
    images: int
    statement: str | None
    findings: tuple[tuple[str, dict[str, Any]], ...]
    reports: tuple[ReportLine, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """All of one study; patient fields are shown to those only who may see them."""

    id: int
    study_uid: str
    state: str
    patient_id: str
    patient_name: str
    accession_number: str
    study_date: str
    modality: str
    description: str
    senders: tuple[str, ...]
    images: int
    first_instance_at: datetime
    last_instance_at: datetime
    settled_at: datetime | None
    unrouted_reason: str | None
    held_at: datetime | None
    held_reason: str | None
    held_text: str | None
    series: tuple[SeriesLine, ...]
    jobs: tuple[JobPart, ...]


def whole(session: Session, study_uid: str) -> Whole | None:
    """Return a study with everything of it; None: it is not in the index."""
    row = session.execute(
        select(
            Study.id,
            Study.state,
            Study.patient_id,
            Study.patient_name,
            Study.accession_number,
            Study.study_date,
            Study.modality,
            Study.first_instance_at,
            Study.last_instance_at,
            Study.settled_at,
            Study.unrouted_reason,
            Study.held_at,
            Study.held_reason,
            Study.held_text,
        ).where(Study.study_instance_uid == study_uid)
    ).one_or_none()
    if row is None:
        return None
    senders = session.scalars(
        select(Instance.sender).where(Instance.study_id == row.id).distinct()
    ).all()
    series, description = _series(session, row.id)
    return Whole(
        study_uid=study_uid,
        senders=tuple(sorted(senders)),
        images=sum(line.images for line in series),
        description=description,
        series=series,
        jobs=_jobs(session, row.id),
        **row._asdict(),
    )


def facts_of(
    session: Session, study_id: int, study_uid: str, *, purged: bool = False
) -> list[InstanceFacts]:
    """Return the facts of a study's images that are there, without their rows.

    Args:
        purged: Of those whose files were given up, too.
    """
    query = (
        select(
            Instance.sop_instance_uid,
            Instance.sop_class_uid,
            Series.series_instance_uid,
            Instance.transfer_syntax_uid,
            Instance.sender,
            Instance.attributes,
        )
        .join(Series, Series.id == Instance.series_id)
        .where(Instance.study_id == study_id)
        .order_by(Instance.id)
    )
    rows = session.execute(query if purged else query.where(Instance.purged_at.is_(None)))
    return [
        InstanceFacts(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            series_instance_uid=row.series_instance_uid,
            study_instance_uid=study_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
            sender=row.sender,
            attributes=row.attributes,
        )
        for row in rows
    ]


def report_file(session: Session, study_uid: str, report_id: int) -> KeptFile | None:
    """Return the file of an object of this study, if it has not been purged."""
    row = session.scalar(
        select(Report)
        .join(Job, Job.id == Report.job_id)
        .join(Study, Study.id == Job.study_id)
        .where(
            Report.id == report_id,
            Study.study_instance_uid == study_uid,
            Report.purged_at.is_(None),
        )
    )
    return None if row is None else kept_report(row)


def _series(session: Session, study_id: int) -> tuple[tuple[SeriesLine, ...], str]:
    counted = session.execute(
        select(
            Series.id,
            Series.series_instance_uid,
            func.count(Instance.id),
            func.count(Instance.purged_at),
            func.min(Instance.id),
        )
        .join(Instance, Instance.series_id == Series.id)
        .where(Series.study_id == study_id)
        .group_by(Series.id, Series.series_instance_uid)
        .order_by(func.min(Instance.id))
    ).all()
    firsts = dict(
        session.execute(
            select(Instance.id, Instance.attributes).where(
                Instance.id.in_([first for *_, first in counted])
            )
        )
        .tuples()
        .all()
    )
    lines = tuple(
        SeriesLine(
            uid,
            str(firsts[first].get("Modality", "")),
            str(firsts[first].get("SeriesDescription", "")),
            number,
            purged,
        )
        for _, uid, number, purged, first in counted
    )
    described = (str(item.get("StudyDescription") or "") for item in firsts.values())
    return lines, next(filter(None, described), "")


def _jobs(session: Session, study_id: int) -> tuple[JobPart, ...]:
    rows = session.execute(
        select(
            Job.id,
            Job.pipeline,
            Job.version,
            Job.state,
            Job.attempts,
            Job.reason,
            Job.rejection,
            Job.error,
            Job.queued_at,
            Job.started_at,
            Job.finished_at,
            Job.superseded_by,
            Job.inputs,
        )
        .where(Job.study_id == study_id)
        .order_by(Job.id)
    ).all()
    ids = [row.id for row in rows]
    findings = _findings(session, ids)
    reports = _reports(session, ids)
    return tuple(
        JobPart(
            id=row.id,
            pipeline=row.pipeline,
            version=row.version,
            state=row.state,
            attempts=row.attempts,
            reason=row.reason,
            rejection=(row.rejection or {}).get("text"),
            error=row.error,
            queued_at=row.queued_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            superseded_by=row.superseded_by,
            images=len(row.inputs),
            statement=next(
                (data["text"] for kind, data in findings.get(row.id, ()) if kind == "statement"),
                None,
            ),
            findings=tuple(item for item in findings.get(row.id, ()) if item[0] != "statement"),
            reports=tuple(reports.get(row.id, ())),
        )
        for row in rows
    )


def _findings(session: Session, ids: Iterable[int]) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    found: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for job_id, kind, data in session.execute(
        select(FindingRow.job_id, FindingRow.kind, FindingRow.data)
        .where(FindingRow.job_id.in_(ids))
        .order_by(FindingRow.id)
    ):
        found.setdefault(job_id, []).append((kind, data))
    return found


def _reports(session: Session, ids: Iterable[int]) -> dict[int, list[ReportLine]]:
    ways: dict[int, list[DeliveryLine]] = {}
    for row in session.execute(
        select(
            Delivery.report_id,
            Delivery.peer,
            Delivery.state,
            Delivery.attempts,
            Delivery.queued_at,
            Delivery.next_attempt_at,
            Delivery.sent_at,
            Delivery.answer,
        )
        .join(Report, Report.id == Delivery.report_id)
        .where(Report.job_id.in_(ids))
        .order_by(Delivery.id)
    ):
        ways.setdefault(row.report_id, []).append(DeliveryLine(*row[1:]))
    found: dict[int, list[ReportLine]] = {}
    for made in session.execute(
        select(
            Report.id,
            Report.job_id,
            Report.kind,
            Report.sop_instance_uid,
            Report.path,
            Report.purged_at,
            Report.sha256,
            Report.host,
        )
        .where(Report.job_id.in_(ids))
        .order_by(Report.id)
    ):
        line = ReportLine(
            made.id,
            made.kind,
            made.sop_instance_uid,
            made.path,
            made.purged_at is None,
            tuple(ways.get(made.id, ())),
            made.sha256,
            made.host,
        )
        found.setdefault(made.job_id, []).append(line)
    return found
