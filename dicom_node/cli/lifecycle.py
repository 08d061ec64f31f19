"""`held`, `hold`, `release`, `discard`, `rerun`, `resend`, `purge`: a person's decisions."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Reason,
    Wide,
    console,
    database_of,
    known_peer,
    print_json,
    say,
    user,
)
from dicom_node.clock import SystemClock
from dicom_node.config import load_config
from dicom_node.serve import lifecycle
from dicom_node.store import overview
from dicom_node.terminal import Listing, Row, local_time

StudyUid = Annotated[str, typer.Argument(help="The study, by its Study Instance UID.")]


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


def hold(study: StudyUid, reason: Reason, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Put a study aside: nothing of it is routed, run or sent until it is released.

    Example: dicom-node hold 1.2.840.113619.2.55 --reason "wrong patient, the ward is asked"
    """
    with database_of(load_config(config)) as database, database.write() as session:
        told = lifecycle.hold(session, study, SystemClock().now(), user(), reason)
    say(told)


def release(study: StudyUid, reason: Reason, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a held study go on, with the images that are there.

    Example: dicom-node release 1.2.840.113619.2.55 --reason "same patient, name was corrected"
    """
    with database_of(load_config(config)) as database, database.write() as session:
        told = lifecycle.release(session, study, SystemClock().now(), user(), reason)
    for line in told:
        say(line)


def discard(study: StudyUid, reason: Reason, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Give up a study: what waits of it is neither run nor sent.

    What was sent stays where it is; the images go when retention takes them.

    Example: dicom-node discard 1.2.840.113619.2.55 --reason "test images of the service engineer"
    """
    with database_of(load_config(config)) as database, database.write() as session:
        told = lifecycle.discard(session, study, SystemClock().now(), user(), reason)
    say(told)


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
        told = lifecycle.rerun(session, study, SystemClock().now(), user(), reason, pipeline)
    for line in told:
        say(line)


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
        told = lifecycle.resend(session, study, SystemClock().now(), user(), reason, peer)
    for line in told:
        say(line)


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


def _size(number: int) -> str:
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


COMMANDS = (held, hold, release, discard, rerun, resend, purge)
