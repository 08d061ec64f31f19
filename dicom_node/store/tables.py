"""The tables: what the node knows, and the one place where state changes are checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates
from sqlalchemy.types import TypeDecorator

from dicom_node.model.states import (
    DeliveryState,
    JobState,
    StudyState,
    check_transition,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware UTC time on every database (SQLite keeps none)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a timezone may not be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON}


def _checked(what: str, old: Any, new: Any) -> str:
    if old is not None and old != new:
        kind = type(new)
        check_transition(what, kind(old), new)
    return str(new)


class Study(Base):
    """A study as it arrives: receiving, then settled; a late instance reopens it.

    Attributes:
        revision: Counts the settlings; routing looks at each settled revision once.
        routed_revision: The last revision that routing has decided on.
        unrouted_reason: Why no route wants it; None when one does or none was asked yet.
        held_at: Since when it waits for a person: nothing of it is routed, run or, when its
            patient is in doubt, sent. None: it does not.
        held_reason: `HoldReason`.
        held_text: The same for a person; never a patient's data.
        lost_workers: How many workers its jobs have taken down since a person released it.
        patient_id, patient_name, accession_number, study_date, modality, sender: Of its first
            image, for lists; "" when it has none.
    """

    __tablename__ = "studies"
    __table_args__ = (
        Index("ix_studies_study_date", "study_date", "id"),
        Index("ix_studies_sender", "sender", "id"),
        Index("ix_studies_first_instance_at", "first_instance_at"),
        Index("ix_studies_held_at", "held_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    first_instance_at: Mapped[datetime]
    last_instance_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(default=0)
    routed_revision: Mapped[int] = mapped_column(default=0)
    unrouted_reason: Mapped[str | None] = mapped_column(Text)
    held_at: Mapped[datetime | None]
    held_reason: Mapped[str | None] = mapped_column(String(32))
    held_text: Mapped[str | None] = mapped_column(Text)
    lost_workers: Mapped[int] = mapped_column(default=0)
    patient_id: Mapped[str] = mapped_column(Text, default="")
    patient_name: Mapped[str] = mapped_column(Text, default="")
    accession_number: Mapped[str] = mapped_column(Text, default="")
    study_date: Mapped[str] = mapped_column(String(8), default="")
    modality: Mapped[str] = mapped_column(String(16), default="")
    sender: Mapped[str] = mapped_column(String(16), default="")

    instances: Mapped[list[Instance]] = relationship(back_populates="study")
    jobs: Mapped[list[Job]] = relationship(back_populates="study", order_by="Job.id")

    @validates("state")
    def _state(self, _: str, new: StudyState) -> str:
        return _checked(f"study {self.study_instance_uid}", self.state, new)


class StudyWord(Base):
    """A word by which a study is found: of the patient's name, an id, an accession number.

    Attributes:
        word: Folded by `dicom_node.store.words`; compared byte by byte on every database.
        is_patient: It tells who the patient is.
    """

    __tablename__ = "study_words"
    __table_args__ = (Index("ix_study_words_study", "study_id", "word"),)

    word: Mapped[str] = mapped_column(
        String(64).with_variant(String(64, collation="C"), "postgresql"), primary_key=True
    )
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    is_patient: Mapped[bool] = mapped_column(primary_key=True)


class Series(Base):
    """A series of a study."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("study_id", "series_instance_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    series_instance_uid: Mapped[str] = mapped_column(String(64))


class Instance(Base):
    """An instance in the spool.

    Attributes:
        path: Relative to the spool's root.
        sha256: Of the encoded data set as it came.
        sender: Calling AE title.
        attributes: Header values by keyword (dicom_node.model.instances.attributes_of).
        promised_at: When a sender was told that it is committed; None: never.
        purged_at: When its file was given up; None: it is there.
        host: Name of the host that holds the file; None: it is in the folder that all share, or
            was removed.
    """

    __tablename__ = "instances"
    __table_args__ = (Index("ix_instances_host", "host", "purged_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    sender: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[datetime]
    attributes: Mapped[dict[str, Any]]
    promised_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]
    host: Mapped[str | None] = mapped_column(String(64))

    study: Mapped[Study] = relationship(back_populates="instances")
    series: Mapped[Series] = relationship()


class Job(Base):
    """One pipeline on one settled study.

    Attributes:
        input_key: Hash of pipeline, version, weights and input instances: the same job
            is never queued twice, and a late image that the pipeline does not take changes none.
        inputs: SOP Instance UIDs that it takes.
        priority: `dicom_node.model.priority.Priority`; a higher one overtakes.
        sender: Calling AE title of its first image: senders take turns.
        peers: Names of the peers that get its reports.
        reason: Which routes asked for it, and why.
        rejection: Set by routing when no image fits: {"reason": code, "text": sentence}.
        replaces: The earlier report (dicom_node.model.predecessor), as claims find it until the
            job has finished once.
        error: What, why and fix of the last failure, and its `reason` in one word.
        superseded_by: The job on more images that took its place before it was delivered or
            after; its result is not sent any more.
        notice: Of a failed job, whether "processing failed" is to be reported: "due", "made" or
            "failed"; None: no.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("study_id", "pipeline", "input_key"),
        Index("ix_jobs_finished_at", "finished_at"),
        Index("ix_jobs_state_finished_at", "state", "finished_at"),
        Index("ix_jobs_pipeline", "pipeline", "version", "state", "finished_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    pipeline: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(64))
    input_key: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    inputs: Mapped[list[str]]
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    sender: Mapped[str] = mapped_column(String(16), default="", server_default="")
    peers: Mapped[list[str]]
    reason: Mapped[str] = mapped_column(Text)
    rejection: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    replaces: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    attempts: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    queued_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    superseded_by: Mapped[int | None]
    notice: Mapped[str | None] = mapped_column(String(8))
    run_record: Mapped[dict[str, Any] | None] = mapped_column(JSON)

    study: Mapped[Study] = relationship(back_populates="jobs")
    reports: Mapped[list[Report]] = relationship(back_populates="job", order_by="Report.id")
    findings: Mapped[list[FindingRow]] = relationship(order_by="FindingRow.id")

    @validates("state")
    def _state(self, _: str, new: JobState) -> str:
        return _checked(f"job {self.id}", self.state, new)


class Suspect(Base):
    """A pipeline that took down its worker and has finished no job since."""

    __tablename__ = "suspects"

    pipeline: Mapped[str] = mapped_column(String(64), primary_key=True)
    since: Mapped[datetime]
    why: Mapped[str] = mapped_column(Text)


class FindingRow(Base):
    """One finding of a job, as plain JSON without its arrays."""

    __tablename__ = "findings"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]


class Report(Base):
    """One DICOM object made from a job's findings; `path` is relative to the reports folder.

    Attributes:
        alternatives: The same SR in other SOP classes, for peers that do not take this one:
            {"sop_class_uid", "sop_instance_uid", "path", "sha256"} of each.
        purged_at: When its file was given up; None: it is there.
        host: Name of the host that holds the file; None: as of an instance.
    """

    __tablename__ = "reports"
    __table_args__ = (Index("ix_reports_host", "host", "purged_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_instance_uid: Mapped[str | None] = mapped_column(String(64))
    alternatives: Mapped[list[Any] | None] = mapped_column(JSON)
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    purged_at: Mapped[datetime | None]
    host: Mapped[str | None] = mapped_column(String(64))

    job: Mapped[Job] = relationship(back_populates="reports")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="report")


class Delivery(Base):
    """One object to one peer: a row of the outbox.

    Attributes:
        answer: What the peer said last (status and comment), or why it could not be asked.
        ask_at: When the peer is to be asked (again) to commit to what was sent; None: it is not.
        asked: How often it was asked since the object was sent last.
        transaction_uid: Of the last request, an `AskedCommitment`.
        resent: How often it was sent again because the peer did not commit to it.
        sent_as: SOP Instance UID of the alternative that the peer got; None: the report itself.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("report_id", "peer"),
        Index("ix_deliveries_due", "peer", "state", "next_attempt_at"),
        Index("ix_deliveries_sent_at", "sent_at"),
        Index("ix_deliveries_peer_sent_at", "peer", "sent_at"),
        Index("ix_deliveries_state", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"), index=True)
    peer: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    queued_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    answer: Mapped[str | None] = mapped_column(Text)
    ask_at: Mapped[datetime | None]
    asked: Mapped[int] = mapped_column(default=0)
    transaction_uid: Mapped[str | None] = mapped_column(String(64))
    resent: Mapped[int] = mapped_column(default=0)
    sent_as: Mapped[str | None] = mapped_column(String(64))

    report: Mapped[Report] = relationship(back_populates="deliveries")

    @validates("state")
    def _state(self, _: str, new: DeliveryState) -> str:
        return _checked(f"delivery {self.id}", self.state, new)


class AuditEvent(Base):
    """Who, what and when of everything that decided about a study (PS3.15 A.5).

    Attributes:
        kind: snake_case name of what happened.
        data: Details; never patient data.
    """

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_kind_at", "kind", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(64), index=True)
    study_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    job_id: Mapped[int | None]
    peer: Mapped[str | None] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]


class Commitment(Base):
    """A peer's storage commitment request (PS3.4 annex J).

    Attributes:
        references: [SOP Class UID, SOP Instance UID] of each instance asked about.
        failed: The same with the failure reason, of those that are not safe.
        held: The report is left to the association of the request, until `not_before`.
        not_before: When an association of our own is due for the report.
        answer: What the peer said last, or why it could not be asked.
    """

    __tablename__ = "commitments"
    __table_args__ = (
        UniqueConstraint("calling_ae", "transaction_uid"),
        Index("ix_commitments_due", "state", "not_before"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64))
    calling_ae: Mapped[str] = mapped_column(String(16))
    called_ae: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    references: Mapped[list[Any]] = mapped_column(JSON)
    failed: Mapped[list[Any] | None] = mapped_column(JSON)
    requested_at: Mapped[datetime]
    held: Mapped[bool]
    not_before: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    answer: Mapped[str | None] = mapped_column(Text)


class AskedCommitment(Base):
    """Our storage commitment request to a peer (PS3.4 annex J).

    Attributes:
        peer: Its name.
        ae_title: Its AE title: only it may answer.
        references: [SOP Class UID, SOP Instance UID] of each object asked about.
        answer: What came of it, in words; None: nothing yet.
    """

    __tablename__ = "asked_commitments"

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64), unique=True)
    peer: Mapped[str] = mapped_column(String(64))
    ae_title: Mapped[str] = mapped_column(String(16))
    references: Mapped[list[Any]] = mapped_column(JSON)
    requested_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    answer: Mapped[str | None] = mapped_column(Text)


class Retrieval(Base):
    """A study that was asked of a peer.

    Attributes:
        state: `RetrievalState`.
        series: How many instances of each series were asked for, by Series Instance UID; None:
            the peer did not say.
        answer: How the peer ended it, or why it could not be asked.
    """

    __tablename__ = "retrievals"
    __table_args__ = (UniqueConstraint("study_instance_uid", "peer"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    peer: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    series: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    begun_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    answer: Mapped[str | None] = mapped_column(Text)
