"""The index of studies: instances in, settled studies out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from dicom_node.model.instances import InstanceFacts
from dicom_node.model.states import StudyState
from dicom_node.store import audit
from dicom_node.store.tables import Instance, Series, Study


@dataclass(frozen=True, slots=True)
class Arrival:
    """An acknowledged instance that is to be indexed.

    Attributes:
        path: Where it lies or will lie, relative to the spool's root.
        sha256: Of the encoded data set.
    """

    facts: InstanceFacts
    path: str
    sha256: str
    received_at: datetime


class Indexed(StrEnum):
    """What the index made of an arrival."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Batch:
    """What the index knows of the instances that are about to be added, asked for once.

    A query for each of many images costs more than to receive them.
    """

    def __init__(self, session: Session, sop_instance_uids: Collection[str]) -> None:
        rows = session.execute(
            select(Instance.sop_instance_uid, Instance.sha256).where(
                Instance.sop_instance_uid.in_(sop_instance_uids)
            )
        )
        self.hashes = {uid: sha256 for uid, sha256 in rows}  # noqa: C416 - typed
        self.studies: dict[str, Study] = {}
        self.series: dict[tuple[str, str], Series] = {}


def add_instance(
    session: Session, arrival: Arrival, now: datetime, batch: Batch | None = None
) -> Indexed:
    """Index one instance; a new one makes its study receiving (again).

    The same SOP Instance UID with the same content changes nothing; with other content, or in
    another study, it is a conflict: the first stays, and the audit trail says so.

    Args:
        batch: Made in this session with the UIDs of all that are added in it; default: alone.
    """
    facts = arrival.facts
    batch = batch or Batch(session, [facts.sop_instance_uid])
    known = batch.hashes.setdefault(facts.sop_instance_uid, "")
    if known == arrival.sha256:
        return Indexed.DUPLICATE
    if known:
        audit.record(
            session,
            now,
            "instance_conflict",
            study_uid=facts.study_instance_uid,
            peer=facts.sender,
            sop_instance_uid=facts.sop_instance_uid,
            kept=known,
            set_aside=arrival.sha256,
        )
        return Indexed.CONFLICT
    batch.hashes[facts.sop_instance_uid] = arrival.sha256
    study_uid, series_uid = facts.study_instance_uid, facts.series_instance_uid
    if study_uid not in batch.studies:
        batch.studies[study_uid] = _study(session, arrival, now)
    study = batch.studies[study_uid]
    if (study_uid, series_uid) not in batch.series:
        batch.series[study_uid, series_uid] = _series(session, study, series_uid)
    session.add(
        Instance(
            study=study,
            series=batch.series[study_uid, series_uid],
            sop_instance_uid=facts.sop_instance_uid,
            sop_class_uid=facts.sop_class_uid,
            transfer_syntax_uid=facts.transfer_syntax_uid,
            path=arrival.path,
            sha256=arrival.sha256,
            sender=facts.sender,
            received_at=arrival.received_at,
            attributes=dict(facts.attributes),
        )
    )
    return Indexed.NEW


def settle_quiet(session: Session, now: datetime, quiet: timedelta) -> list[str]:
    """Settle each receiving study that has been quiet; returns their Study Instance UIDs."""
    studies = session.scalars(
        select(Study)
        .where(Study.state == StudyState.RECEIVING, Study.last_instance_at <= now - quiet)
        .order_by(Study.last_instance_at)
    ).all()
    for study in studies:
        study.state = StudyState.SETTLED
        study.settled_at = now
        study.revision += 1
        audit.record(
            session,
            now,
            "study_settled",
            study_uid=study.study_instance_uid,
            revision=study.revision,
            quiet_seconds=quiet.total_seconds(),
        )
    return [study.study_instance_uid for study in studies]


def to_route(session: Session, limit: int = 20) -> Sequence[Study]:
    """Return settled studies that routing has not decided on since they settled."""
    return session.scalars(
        select(Study)
        .where(Study.state == StudyState.SETTLED, Study.routed_revision < Study.revision)
        .order_by(Study.settled_at)
        .limit(limit)
    ).all()


def route_again(session: Session, study: Study, now: datetime) -> None:
    """Let routing decide on a settled study once more; what it asked for before stays."""
    study.routed_revision = min(study.routed_revision, study.revision - 1)
    study.unrouted_reason = None
    audit.record(session, now, "study_to_route_again", study_uid=study.study_instance_uid)


def facts_of_study(session: Session, study: Study) -> list[InstanceFacts]:
    """Return the facts of every instance of a study, in the order received."""
    rows = session.scalars(
        select(Instance)
        .where(Instance.study_id == study.id)
        .options(selectinload(Instance.series))
        .order_by(Instance.id)
    )
    return [facts_of_row(row, study.study_instance_uid) for row in rows]


def facts_of_row(row: Instance, study_instance_uid: str) -> InstanceFacts:
    """Return the facts of one indexed instance."""
    return InstanceFacts(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_instance_uid=row.series.series_instance_uid,
        study_instance_uid=study_instance_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        sender=row.sender,
        attributes=row.attributes,
    )


def _study(session: Session, arrival: Arrival, now: datetime) -> Study:
    uid = arrival.facts.study_instance_uid
    study = session.scalar(select(Study).where(Study.study_instance_uid == uid))
    if study is None:
        study = Study(
            study_instance_uid=uid,
            state=StudyState.RECEIVING,
            first_instance_at=arrival.received_at,
            last_instance_at=now,
            revision=0,
            routed_revision=0,
        )
        session.add(study)
        session.flush()
        audit.record(session, now, "study_begun", study_uid=uid, peer=arrival.facts.sender)
        return study
    study.last_instance_at = now
    if study.state == StudyState.SETTLED:
        study.state = StudyState.RECEIVING
        audit.record(
            session,
            now,
            "study_reopened",
            study_uid=uid,
            peer=arrival.facts.sender,
            sop_instance_uid=arrival.facts.sop_instance_uid,
        )
    return study


def _series(session: Session, study: Study, uid: str) -> Series:
    series = session.scalar(
        select(Series).where(Series.study_id == study.id, Series.series_instance_uid == uid)
    )
    if series is None:
        series = Series(study_id=study.id, series_instance_uid=uid)
        session.add(series)
        session.flush()
    return series
