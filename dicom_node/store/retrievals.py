"""What is here of a peer's study, and what was asked of the peer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.model.states import JobState, RetrievalState, StudyState
from dicom_node.store import audit, index
from dicom_node.store.jobs import NewJob
from dicom_node.store.tables import Instance, Job, Report, Retrieval, Series, Study


@dataclass(frozen=True, slots=True)
class Here:
    """What the index holds of a study.

    Attributes:
        series: Number of instances by Series Instance UID, our own objects left out.
        purged: Some of the files were given up.
    """

    series: Mapping[str, int]
    purged: bool = False

    @property
    def instances(self) -> int:
        return sum(self.series.values())


class Analysed(StrEnum):
    """What became of a study that is here."""

    CURRENT = "current"
    OUTDATED = "outdated"
    NOT_YET = "not_yet"


def here(session: Session, study_uid: str) -> Here:
    """Count what is here of a study; a study that is not has no series."""
    query = (
        select(Series.series_instance_uid, func.count(), func.count(Instance.purged_at))
        .select_from(Instance)
        .join(Series, Instance.series_id == Series.id)
        .join(Study, Instance.study_id == Study.id)
        .where(
            Study.study_instance_uid == study_uid,
            Instance.sop_instance_uid.not_in(select(Report.sop_instance_uid)),
        )
        .group_by(Series.series_instance_uid)
    )
    rows = session.execute(query).all()
    return Here({uid: number for uid, number, _ in rows}, any(purged for _, _, purged in rows))


def instances_here(session: Session, study_uid: str, series_uid: str) -> frozenset[str]:
    """Return the SOP Instance UIDs of a series that are here."""
    query = (
        select(Instance.sop_instance_uid)
        .join(Series, Instance.series_id == Series.id)
        .join(Study, Instance.study_id == Study.id)
        .where(Study.study_instance_uid == study_uid, Series.series_instance_uid == series_uid)
    )
    return frozenset(session.scalars(query))


def own_objects(session: Session, study_uid: str) -> frozenset[str]:
    """Return the SOP Instance UIDs of all objects that we made for a study."""
    rows = session.execute(
        select(Report.sop_instance_uid, Report.alternatives)
        .join(Job, Report.job_id == Job.id)
        .join(Study, Job.study_id == Study.id)
        .where(Study.study_instance_uid == study_uid)
    )
    found: set[str] = set()
    for uid, alternatives in rows:
        found.add(uid)
        found.update(str(item["sop_instance_uid"]) for item in alternatives or [])
    return frozenset(found)


def series_asked_for(session: Session, study_uid: str) -> frozenset[str]:
    """Return the series of a study that we have asked any peer for."""
    rows = session.scalars(
        select(Retrieval.series).where(Retrieval.study_instance_uid == study_uid)
    )
    return frozenset(uid for series in rows for uid in series)


def analysed(
    session: Session, study_uid: str, pipelines: Mapping[str, tuple[str, str]]
) -> Analysed:
    """Tell whether a study was analysed by the pipelines as they are now.

    Args:
        pipelines: Version and SHA-256 of the weights, by name.

    Returns:
        OUTDATED: Other versions or weights did, or no route wanted it when it was looked at.
            NOT_YET: It is not here, or not settled and routed.
    """
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_uid))
    if study is None or study.state != StudyState.SETTLED or study.routed_revision < study.revision:
        return Analysed.NOT_YET
    last = {job.pipeline: job for job in study.jobs}
    current = all(_is_current(job, pipelines.get(name)) for name, job in last.items())
    return Analysed.CURRENT if last and current else Analysed.OUTDATED


def route_again(session: Session, study_uid: str, now: datetime, by: str = "") -> None:
    """Let routing decide once more on a study that is here and settled."""
    study = session.scalar(select(Study).where(Study.study_instance_uid == study_uid))
    if study is not None and study.state == StudyState.SETTLED:
        index.route_again(session, study, now, by)


def queued_jobs(session: Session) -> int:
    """Return the number of jobs that wait."""
    query = select(func.count()).select_from(Job).where(Job.state == JobState.QUEUED)
    return session.scalar(query) or 0


def find(session: Session, study_uid: str, peer: str) -> Retrieval | None:
    """Return what was asked of a peer about a study."""
    return session.scalar(
        select(Retrieval).where(Retrieval.study_instance_uid == study_uid, Retrieval.peer == peer)
    )


def begin(
    session: Session,
    study_uid: str,
    peer: str,
    series: Mapping[str, int | None],
    now: datetime,
    by: str = "",
) -> None:
    """Note that a peer is asked for series of a study, and by whom."""
    row = find(session, study_uid, peer)
    if row is None:
        row = Retrieval(study_instance_uid=study_uid, peer=peer, attempts=0, series={})
        session.add(row)
    row.state = RetrievalState.PULLING
    row.series = {**row.series, **series}
    row.attempts += 1
    row.begun_at, row.ended_at, row.answer = now, None, None
    audit.record(session, now, "study_asked_for", study_uid=study_uid, peer=peer, by=by or None)


def end(
    session: Session,
    study_uid: str,
    peer: str,
    answer: str,
    now: datetime,
    *,
    instances: int | None,
    failed: bool,
) -> None:
    """Note how a peer ended it.

    Args:
        instances: How many came, if the peer said.
    """
    row = find(session, study_uid, peer)
    if row is None:
        return
    row.state = RetrievalState.FAILED if failed else RetrievalState.PULLED
    row.ended_at, row.answer = now, answer
    audit.record(
        session,
        now,
        "study_not_pulled" if failed else "study_pulled",
        study_uid=study_uid,
        peer=peer,
        answer=answer,
        instances=instances,
    )


def _is_current(job: Job, pipeline: tuple[str, str] | None) -> bool:
    if pipeline is None:
        return True  # no pipeline of that name is left to run
    version, weights_sha256 = pipeline
    same = NewJob(
        pipeline=job.pipeline,
        version=version,
        weights_sha256=weights_sha256,
        inputs=job.inputs,
        peers=job.peers,
        reason=job.reason,
        rejection=job.rejection,
    )
    return same.input_key == job.input_key
