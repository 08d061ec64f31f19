"""`held`, `release`, `discard`, `rerun`, `resend`, `purge`: what a person decides about studies."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.text import Text
from sqlalchemy import select

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Wide,
    console,
    database_of,
    known_peer,
    print_json,
    say,
)
from dicom_node.clock import SystemClock
from dicom_node.config import load_config
from dicom_node.errors import NodeError
from dicom_node.model.states import DeliveryState, JobState
from dicom_node.store import audit, outbox, overview
from dicom_node.store import held as holding
from dicom_node.store import jobs as queue
from dicom_node.store.tables import Delivery, Job, Report
from dicom_node.terminal import Listing, Row, local_time

StudyUid = Annotated[str, typer.Argument(help="The study, by its Study Instance UID.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail. No patient data.")]


def held(config: ConfigFile = DEFAULT_CONFIG, wide: Wide = False, as_json: AsJson = False) -> None:
    """List the studies that wait for a person, and why.

    Example: dicom-node held
    """
    with database_of(load_config(config)) as database, database.read() as session:
        lines = overview.held(session)
    if as_json:
        print_json(lines)
    elif lines:
        rows = [
            Row((line.study_uid, line.reason, local_time(line.since)), [line.text])
            for line in lines
        ]
        console.print(Listing(("study", "why", "since"), rows, elastic=0, wide=wide), crop=False)
    else:
        console.print("no study is held")


def release(study: StudyUid, reason: Reason, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a held study go on, with the images that are there.

    Example: dicom-node release 1.2.840.113619.2.55 --reason "same patient, name was corrected"
    """
    with database_of(load_config(config)) as database, database.write() as session:
        row = holding.find(session, study)
        again = holding.release(session, row, SystemClock().now(), _user(), reason)
    say(f"released: study {study}")
    for job in again:
        say(f"queued again: job {job}")


def discard(study: StudyUid, reason: Reason, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Give up a study: what waits of it is neither run nor sent.

    What was sent stays where it is; the images go when retention takes them.

    Example: dicom-node discard 1.2.840.113619.2.55 --reason "test images of the service engineer"
    """
    with database_of(load_config(config)) as database, database.write() as session:
        row = holding.find(session, study)
        number = holding.discard(session, row, SystemClock().now(), _user(), reason)
    say(f"discarded: study {study}; {number} jobs and deliveries given up")


def rerun(
    study: StudyUid,
    reason: Reason,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline's job.")] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Run a study's jobs again, those that are done, too.

    With the same software and weights that makes the same objects. What a peer has is not sent
    again: `dicom-node resend` does that.

    Example: dicom-node rerun 1.2.840.113619.2.55 --reason "the model's answer is doubted"
    """
    with database_of(load_config(config)) as database, database.write() as session:
        row = holding.find(session, study)
        query = select(Job).where(Job.study_id == row.id, Job.superseded_by.is_(None))
        if pipeline:
            query = query.where(Job.pipeline == pipeline)
        found = session.scalars(query.order_by(Job.id)).all()
        if not found:
            raise NodeError(
                f"study {study}",
                f"it has no job of {pipeline}" if pipeline else "it has no job",
                f"`dicom-node retry --study {study}` routes it again",
            )
        now = SystemClock().now()
        for job in found:
            if job.state != JobState.QUEUED:
                queue.retry(session, job, now, by=_user(), reason=reason)
    for job in found:
        say(f"queued again: job {job.id} ({job.pipeline})")


def resend(
    study: StudyUid,
    reason: Reason,
    peer: Annotated[str | None, typer.Option(help="Only to this peer.")] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Send a study's reports again, those that were sent, too.

    Example: dicom-node resend 1.2.840.113619.2.55 --peer pacs --reason "lost in the migration"
    """
    loaded = load_config(config)
    if peer is not None:
        known_peer(loaded, peer)
    with database_of(loaded) as database, database.write() as session:
        row = holding.find(session, study)
        query = (
            select(Delivery)
            .join(Delivery.report)
            .join(Report.job)
            .where(Job.study_id == row.id, Delivery.state != DeliveryState.SUPERSEDED)
        )
        if peer:
            query = query.where(Delivery.peer == peer)
        found = session.scalars(query.order_by(Delivery.id)).all()
        there = [item for item in found if item.report.purged_at is None]
        if not there:
            raise NodeError(
                f"study {study}",
                "its reports were purged" if found else "no report of it was queued",
                f"`dicom-node rerun {study}` makes them again, if its images are there",
            )
        now = SystemClock().now()
        audit.record(
            session, now, "resend_asked", study_uid=study, peer=peer, by=_user(), reason=reason
        )
        for item in there:
            outbox.retry(session, item, now)
        told = [f"{item.report.kind} of job {item.report.job_id} to {item.peer}" for item in there]
    for line in told:
        say(f"queued again: {line}")


def purge(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go; remove nothing.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Remove now what `retention` in node.yaml lets go; the running node does it every hour.

    Example: dicom-node purge --dry-run
    """
    from dicom_node.serve.retention import Retention

    loaded = load_config(config)
    with database_of(loaded) as database:
        retention = Retention(loaded, database, SystemClock())
        if dry_run:
            gone = retention.would_purge()
        else:
            gone = [*retention.purge_by_age(), *retention.purge_when_low()]
    if as_json:
        print_json(gone)
        return
    for item in gone:
        since = local_time(item.finished_at)
        size = "" if not item.files else f" ({item.files} files, {_size(item.bytes)})"
        say(f"{item.kind} of study {item.study_uid}, finished {since}{size}: {item.why}")
    total = _size(sum(item.bytes for item in gone))
    verb = "would go" if dry_run else "gone"
    console.print(Text(f"{len(gone)} items, {total} {verb}"))


def _user() -> str:
    """Who says so: the account that runs the command."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"user {os.getuid()}"


def _size(number: int) -> str:
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


COMMANDS = (held, release, discard, rerun, resend, purge)
