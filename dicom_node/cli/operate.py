"""`serve`, `check`, `retry`: running the node, and mending what failed."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    LARGEST,
    AsJson,
    ConfigFile,
    console,
    database_of,
    known_peer,
    print_json,
    user,
)
from dicom_node.clock import SystemClock
from dicom_node.config import load_config
from dicom_node.errors import ConfigError, NodeError
from dicom_node.model.states import JobState
from dicom_node.serve import lifecycle
from dicom_node.store import jobs as queue
from dicom_node.store import outbox, overview
from dicom_node.store.tables import Job, Study
from dicom_node.terminal import state_text


def serve(
    config: ConfigFile = DEFAULT_CONFIG,
    role: Annotated[
        str | None,
        typer.Option(help="Run only this role here: receiver, coordinator, worker, web or keeper."),
    ] = None,
) -> None:
    """Run the node.

    Example: dicom-node serve --config /etc/dicom-node/node.yaml
    """
    from dicom_node.serve import roles

    if role is None:
        raise typer.Exit(roles.serve(config))

    def web(*given: Any) -> None:
        from dicom_node.web.server import run_web

        run_web(config, *given)

    raise typer.Exit(roles.serve_role(config, role, {"web": web}))


def check(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check the configuration, disk, database, port, device, weights and peers.

    Exit status: 0 when nothing failed (warnings may be there), 1 when something did.

    Example: dicom-node check --config node.yaml
    """
    from dicom_node.serve.checks import Level, check_all
    from dicom_node.serve.roles import load_all

    loaded, bundles = load_all(config)
    found = []
    for item in check_all(loaded, bundles):
        found.append(item)
        if not as_json:
            # each as soon as it is known: a peer that is away takes seconds
            lines = Table.grid(padding=(0, 2, 0, 0))
            lines.add_column(width=4)
            lines.add_row(state_text(item.level), Text(f"{item.name}: {item.seen}"))
            if item.fix:
                lines.add_row("", Text(f"fix: {item.fix}"))
            console.print(lines)
    if as_json:
        print_json(found)
    else:
        numbers = {level: sum(item.level is level for item in found) for level in Level}
        console.print(", ".join(f"{number} {level}" for level, number in numbers.items()))
    raise typer.Exit(1 if any(item.level is Level.FAIL for item in found) else 0)


def retry(
    job: Annotated[int | None, typer.Argument(max=LARGEST, help="The job to run again.")] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    peer: Annotated[
        str | None,
        typer.Option(help="Send now what this peer has not taken, given up or waiting."),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Route this study again, by its Study Instance UID.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Run and send again everything that failed.")
    ] = False,
) -> None:
    """Run a job again, send again what failed, or route a study again.

    Example: dicom-node retry 12

    Example: dicom-node retry --peer pacs
    """
    if sum((job is not None, peer is not None, study is not None, failed)) != 1:
        raise ConfigError(
            "retry", "it needs one thing to do", "give a job, --peer, --study or --failed"
        )
    loaded = load_config(config)
    if peer is not None:
        known_peer(loaded, peer)
    with database_of(loaded) as database, database.write() as session:
        if job is not None:
            again = [_retry_job(session, job)]
        elif study is not None:
            again = [lifecycle.route_again(session, study, SystemClock().now(), user())]
        else:
            again = [*(_failed_jobs(session) if failed else []), *_deliveries(session, peer)]
    for line in again:
        typer.echo(f"queued again: {line}")
    if not again:
        typer.echo("nothing to do: nothing had failed" if failed else f"{peer} has taken all")


def _retry_job(session: Session, job_id: int) -> str:
    row = session.get(Job, job_id)
    if row is None:
        raise NodeError(f"job {job_id}", "there is none", "see `dicom-node jobs`")
    queue.retry(session, row, SystemClock().now(), by=user())
    return f"job {job_id} ({row.pipeline})"


def _failed_jobs(session: Session) -> list[str]:
    query = select(Job).where(
        Job.state == JobState.FAILED,
        Job.superseded_by.is_(None),
        Job.study.has(Study.held_at.is_(None)),
    )
    rows = session.scalars(query.order_by(Job.id)).all()
    return [_retry_job(session, row.id) for row in rows]


def _deliveries(session: Session, peer: str | None) -> list[str]:
    now = SystemClock().now()
    again = []
    for row in overview.unsent_deliveries(session, peer, waiting=peer is not None):
        outbox.retry(session, row, now, by=user())
        again.append(f"{row.report.kind} of job {row.report.job_id} to {row.peer}")
    return again


COMMANDS = (serve, check, retry)
