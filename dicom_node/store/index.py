"""The index of studies: instances in, settled studies out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, selectinload

from dicom_node.model.instances import InstanceFacts
from dicom_node.model.states import HoldReason, StudyState
from dicom_node.store import audit, held, patients
from dicom_node.store.tables import Instance, Series, Study, StudyWord
from dicom_node.store.words import headline, words_of

_AHEAD: Final = timedelta(minutes=1)
"""How far in the future a study's last image may lie."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An acknowledged instance that is to be indexed.

    Attributes:
        path: Where it lies or will lie, relative to the spool's root.
        sha256: Of the encoded data set.
        host: Name of the host whose spool it is; None: all hosts share it.
    """

    facts: InstanceFacts
    path: str
    sha256: str
    received_at: datetime
    host: str | None = None


class Indexed(StrEnum):
    """What the index made of an arrival."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    RESTORED = "restored"
    MOVED = "moved"


class Batch:
    """What the index knows of the instances that are about to be added, asked for once.

    A query for each of many images costs more than to receive them.
    """

    def __init__(self, session: Session, sop_instance_uids: Collection[str]) -> None:
        rows = session.execute(
            select(
                Instance.sop_instance_uid, Instance.sha256, Instance.purged_at, Instance.host
            ).where(Instance.sop_instance_uid.in_(sop_instance_uids))
        ).all()
        self.hashes = {uid: sha256 for uid, sha256, _, _ in rows}
        self.purged = {uid for uid, _, purged_at, _ in rows if purged_at is not None}
        self.hosts = {uid: host for uid, _, _, host in rows}
        self.patients: dict[str, Mapping[str, Any]] = {}
        self.studies: dict[str, Study] = {}
        self.series: dict[tuple[str, str], Series] = {}


def add_instance(
    session: Session,
    arrival: Arrival,
    now: datetime,
    batch: Batch | None = None,
    *,
    hold_changed_patient: bool = True,
) -> Indexed:
    """Index one instance; a new one makes its study receiving (again).

    The same SOP Instance UID with the same content changes nothing, unless its file was purged:
    then it is there again; or came to another host: the newest copy is the one that counts, as
    nobody knows whether the other host comes back. With other content, or in another study, it is
    a conflict: the first stays, and the audit trail says so. Other content takes the place of a
    first one whose file was purged, if it is of the same study: there is nothing else to keep. An
    instance that names another patient than its study's first is told, and the study held for a
    person.

    Args:
        batch: Made in this session with the UIDs of all that are added in it; default: alone.
        hold_changed_patient: False: only told.
    """
    facts = arrival.facts
    batch = batch or Batch(session, [facts.sop_instance_uid])
    known = batch.hashes.setdefault(facts.sop_instance_uid, "")
    if known == arrival.sha256:
        return _seen_before(session, arrival, now, batch)
    if known:
        patients.compare_with_first_content(session, facts, now, hold=hold_changed_patient)
        if facts.sop_instance_uid in batch.purged:
            row = _row(session, facts.sop_instance_uid)
            if row.study.study_instance_uid == facts.study_instance_uid:
                return _in_place_of_purged(session, row, arrival, now, batch)
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
    batch.hosts[facts.sop_instance_uid] = arrival.host
    study_uid, series_uid = facts.study_instance_uid, facts.series_instance_uid
    if study_uid not in batch.studies:
        batch.studies[study_uid] = _study(session, arrival, now)
    study = batch.studies[study_uid]
    patients.compare_with_study(
        session, study, facts, now, batch.patients, hold=hold_changed_patient
    )
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
            host=arrival.host,
        )
    )
    return Indexed.NEW


def any_quiet(session: Session, now: datetime, quiet: timedelta) -> bool:
    """Tell whether `settle_quiet` would settle a study."""
    return session.scalar(_quiet(now, quiet).limit(1)) is not None


def next_to_be_quiet(session: Session, now: datetime, quiet: timedelta) -> datetime | None:
    """Return when the last image came of the study that will be quiet next; None: there is none."""
    return session.scalar(
        select(func.min(Study.last_instance_at)).where(
            Study.state == StudyState.RECEIVING, Study.last_instance_at > now - quiet
        )
    )


def quiet_studies(session: Session, now: datetime, quiet: timedelta) -> Sequence[Study]:
    """Return the receiving studies that have been quiet, the longest first."""
    return session.scalars(_quiet(now, quiet)).all()


def any_ahead(session: Session, now: datetime) -> bool:
    """Tell whether `bring_back` would find a study."""
    return session.scalar(_ahead(now).limit(1)) is not None


def bring_back(session: Session, now: datetime) -> list[str]:
    """Let receiving studies that are dated ahead count as come now; returns their UIDs.

    Their last image came while the clock was ahead: they would settle when it is there again.
    """
    found = session.scalars(_ahead(now)).all()
    for study in found:
        audit.record(
            session,
            now,
            "study_dated_ahead",
            study_uid=study.study_instance_uid,
            last_instance_at=study.last_instance_at.isoformat(),
        )
        study.last_instance_at = now
    return [study.study_instance_uid for study in found]


def _ahead(now: datetime) -> Select[tuple[Study]]:
    # clocks of several hosts may differ by a little
    return select(Study).where(
        Study.state == StudyState.RECEIVING, Study.last_instance_at > now + _AHEAD
    )


def at_once(_: Study) -> Mapping[str, Any]:
    """Let a quiet study settle without a word."""
    return {}


def settle_quiet(
    session: Session,
    now: datetime,
    quiet: timedelta,
    ready: Callable[[Study], Mapping[str, Any] | None] = at_once,
) -> list[str]:
    """Settle each receiving study that has been quiet; returns their Study Instance UIDs.

    Args:
        ready: What the audit trail is to say of a study that may settle; None: it has to wait.
    """
    settled = []
    for study in quiet_studies(session, now, quiet):
        known = ready(study)
        if known is None:
            continue
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
            **known,
        )
        settled.append(study.study_instance_uid)
    return settled


def _quiet(now: datetime, quiet: timedelta) -> Select[tuple[Study]]:
    return (
        select(Study)
        .where(Study.state == StudyState.RECEIVING, Study.last_instance_at <= now - quiet)
        .order_by(Study.last_instance_at)
    )


def to_route(session: Session, limit: int = 20) -> Sequence[Study]:
    """Return settled studies that routing has not decided on since they settled."""
    return session.scalars(
        select(Study)
        .where(
            Study.state == StudyState.SETTLED,
            Study.routed_revision < Study.revision,
            Study.held_at.is_(None),
        )
        .order_by(Study.settled_at)
        .limit(limit)
    ).all()


def route_again(session: Session, study: Study, now: datetime, by: str = "", why: str = "") -> None:
    """Let routing decide on a settled study once more; what it asked for before stays.

    Args:
        by, why: Of a person who gave a reason.
    """
    study.routed_revision = min(study.routed_revision, study.revision - 1)
    study.unrouted_reason = None
    audit.record(
        session,
        now,
        "study_to_route_again",
        study_uid=study.study_instance_uid,
        by=by or None,
        reason=why or None,
    )


def facts_of_study(session: Session, study: Study) -> list[InstanceFacts]:
    """Return the facts of every instance of a study that is there, in the order received."""
    rows = session.scalars(
        select(Instance)
        .where(Instance.study_id == study.id, Instance.purged_at.is_(None))
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


def purged_images(session: Session, study: Study) -> int:
    """Return how many of a study's images are not there any more."""
    query = select(func.count()).where(
        Instance.study_id == study.id, Instance.purged_at.is_not(None)
    )
    return session.scalar(query) or 0


def _seen_before(session: Session, arrival: Arrival, now: datetime, batch: Batch) -> Indexed:
    """The same content came again: nothing new, or what was purged or elsewhere is there again."""
    uid = arrival.facts.sop_instance_uid
    if uid in batch.purged:
        return _there_again(session, _row(session, uid), arrival, now, batch)
    if batch.hosts[uid] == arrival.host:
        return Indexed.DUPLICATE
    batch.hosts[uid] = arrival.host
    row = _row(session, uid)
    row.path = arrival.path
    row.host = arrival.host
    return Indexed.MOVED


def _in_place_of_purged(
    session: Session, row: Instance, arrival: Arrival, now: datetime, batch: Batch
) -> Indexed:
    """Other content came, of the same study, and the first is gone: this is the image now."""
    facts = arrival.facts
    audit.record(
        session,
        now,
        "instance_replaced",
        study_uid=facts.study_instance_uid,
        peer=facts.sender,
        sop_instance_uid=facts.sop_instance_uid,
        purged=row.sha256,
        taken=arrival.sha256,
    )
    if row.series.series_instance_uid != facts.series_instance_uid:
        row.series = _series(session, row.study, facts.series_instance_uid)
    row.sop_class_uid = facts.sop_class_uid
    row.transfer_syntax_uid = facts.transfer_syntax_uid
    row.sha256 = arrival.sha256
    row.sender = facts.sender
    row.received_at = arrival.received_at
    row.attributes = dict(facts.attributes)
    # a sender was told so of the first content
    row.promised_at = None
    batch.hashes[facts.sop_instance_uid] = arrival.sha256
    return _there_again(session, row, arrival, now, batch)


def _there_again(
    session: Session, row: Instance, arrival: Arrival, now: datetime, batch: Batch
) -> Indexed:
    """A file that was purged is there again; with the last of them its study goes on."""
    uid = arrival.facts.sop_instance_uid
    batch.purged.discard(uid)
    batch.hosts[uid] = arrival.host
    row.purged_at = None
    row.path = arrival.path
    row.host = arrival.host
    study_uid = arrival.facts.study_instance_uid
    if study_uid not in batch.studies:
        batch.studies[study_uid] = _study(session, arrival, now)
    study = batch.studies[study_uid]
    session.flush()
    if study.held_reason == HoldReason.IMAGES_PURGED and not purged_images(session, study):
        held.release(session, study, now, "dicom-node", "all its images are there again")
    return Indexed.RESTORED


def _row(session: Session, sop_instance_uid: str) -> Instance:
    query = select(Instance).where(Instance.sop_instance_uid == sop_instance_uid)
    return session.scalars(query).one()


def _study(session: Session, arrival: Arrival, now: datetime) -> Study:
    uid = arrival.facts.study_instance_uid
    study = session.scalar(select(Study).where(Study.study_instance_uid == uid))
    if study is None:
        line = headline(arrival.facts.attributes)
        study = Study(
            study_instance_uid=uid,
            state=StudyState.RECEIVING,
            first_instance_at=arrival.received_at,
            last_instance_at=now,
            revision=0,
            routed_revision=0,
            sender=arrival.facts.sender,
            **asdict(line),
        )
        session.add(study)
        session.flush()
        session.add_all(
            StudyWord(word=word, study_id=study.id, is_patient=is_patient)
            for word, is_patient in sorted(words_of(line))
        )
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
