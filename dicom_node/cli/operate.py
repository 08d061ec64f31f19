"""`serve`, `check`, `status`, `jobs`, `retry`: running the node and seeing what it did."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json
from dicom_node.clock import SystemClock
from dicom_node.config import load_config
from dicom_node.errors import ConfigError, NodeError
from dicom_node.model.states import JobState
from dicom_node.store import jobs as queue
from dicom_node.store import outbox, overview
from dicom_node.store.database import Database
from dicom_node.store.tables import Job
from dicom_node.terminal import coloured, studies_table


def serve(
    config: ConfigFile = DEFAULT_CONFIG,
    role: Annotated[
        str | None,
        typer.Option(help="Run only this role here: receiver, coordinator or worker."),
    ] = None,
) -> None:
    """Run the node.

    Example: dicom-node serve --config /etc/dicom-node/node.yaml
    """
    from dicom_node.serve import roles

    status = roles.serve_role(config, role) if role else roles.serve(config)
    raise typer.Exit(status)


def check(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check the configuration, the disk, the weights, the device and the peers.

    Example: dicom-node check --config node.yaml
    """
    from dicom_node.serve.checks import Level, check_all
    from dicom_node.serve.roles import load_all

    loaded, bundles = load_all(config)
    failed = False
    found = []
    for item in check_all(loaded, bundles):
        failed |= item.level is Level.FAIL
        found.append(item)
        if not as_json:
            console.print(f"{coloured(item.level):>4}  [bold]{item.name}[/]: {item.seen}")
            if item.fix:
                console.print(f"      fix: {item.fix}")
    if as_json:
        print_json(found)
    raise typer.Exit(1 if failed else 0)


def status(
    config: ConfigFile = DEFAULT_CONFIG,
    study: Annotated[
        str | None, typer.Argument(help="A Study Instance UID: only this one, with its story.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many studies, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what happened to the studies, and what waits.

    Example: dicom-node status 1.2.840.113619.2.55
    """
    database = _database(config)
    with database.read() as session:
        counts = overview.counts(session)
        lines = overview.studies(session, limit, study)
        story = _story(session, study) if study else []
    if study and not lines:
        raise NodeError(
            f"study {study}", "it is not in the index", "see `dicom-node status` for those that are"
        )
    if as_json:
        print_json({"counts": counts, "studies": lines, "events": story})
        return
    console.print(_counts_line(counts))
    console.print(studies_table(lines))
    for event in story:
        console.print(f"{event['at']}  [bold]{event['kind']}[/]  {event['data']}")


def jobs(
    config: ConfigFile = DEFAULT_CONFIG,
    state: Annotated[JobState | None, typer.Option(help="Only jobs of this state.")] = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs: which pipeline on which study, why, and how it ended.

    Example: dicom-node jobs --state failed
    """
    with _database(config).read() as session:
        lines = overview.jobs(session, limit, state)
    if as_json:
        print_json(lines)
        return
    table = Table("job", "study", "pipeline", "state", "tries", "result or error")
    for line in lines:
        table.add_row(
            str(line.id),
            line.study_uid,
            line.pipeline,
            coloured(line.state),
            str(line.attempts),
            line.error or line.statement or line.reason,
        )
    console.print(table)


def retry(
    job: Annotated[int | None, typer.Argument(help="The job to run again.")] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    peer: Annotated[
        str | None, typer.Option(help="Send again what this peer did not take.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Run every failed job and delivery again.")
    ] = False,
) -> None:
    """Run a job again, or send again what failed.

    Example: dicom-node retry 12      dicom-node retry --peer pacs
    """
    if sum((job is not None, peer is not None, failed)) != 1:
        raise ConfigError("retry", "it needs one thing to do", "give a job, --peer or --failed")
    loaded = load_config(config)
    if peer is not None and peer not in loaded.peers:
        raise ConfigError(
            f"peer {peer}", "node.yaml has no such peer", f"known: {', '.join(loaded.peers)}"
        )
    now = SystemClock().now()
    again: list[str] = []
    with _database(config).write() as session:
        if job is not None:
            row = session.get(Job, job)
            if row is None:
                raise NodeError(f"job {job}", "there is none", "see `dicom-node jobs`")
            queue.retry(session, row, now)
            again.append(f"job {job}")
        if failed:
            for line in overview.jobs(session, 10_000, JobState.FAILED):
                queue.retry(session, session.get_one(Job, line.id), now)
                again.append(f"job {line.id}")
        if peer is not None or failed:
            for delivery in overview.failed_deliveries(session, peer):
                outbox.retry(session, delivery, now)
                again.append(f"{delivery.report.kind} to {delivery.peer}")
    typer.echo(f"queued again: {', '.join(again) or 'nothing had failed'}")


def _counts_line(counts: overview.Counts) -> str:
    def part(numbers: dict[str, int]) -> str:
        return ", ".join(f"{number} {coloured(state)}" for state, number in numbers.items())

    lines = [
        f"studies: {part(counts.studies) or 'none'}; {counts.unrouted} that no route wanted",
        f"jobs: {part(counts.jobs) or 'none'}",
        *(f"to {peer}: {part(numbers)}" for peer, numbers in counts.deliveries.items()),
    ]
    return "\n".join(lines)


def _story(session: Session, study_uid: str) -> list[dict[str, object]]:
    from dicom_node.store import audit

    return [
        {"at": event.at.isoformat(), "kind": event.kind, "peer": event.peer, "data": event.data}
        for event in audit.events_of(session, study_uid)
    ]


def _database(config: ConfigFile) -> Database:
    database = Database(load_config(config).database_url)
    database.migrate()
    return database


COMMANDS = (serve, check, status, jobs, retry)
