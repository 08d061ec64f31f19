"""`audit`: read the audit trail, and see whether it stands as it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import typer
from sqlalchemy.orm import Session

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    LARGEST,
    AsJson,
    ConfigFile,
    Reason,
    Wide,
    config_now,
    console,
    database_of,
    print_json,
    say,
    user,
)
from dicom_node.clock import SystemClock
from dicom_node.store import audit, chain
from dicom_node.store.chain import Sealed
from dicom_node.store.database import Database
from dicom_node.terminal import Listing, Row, local_time

app = typer.Typer(help="Read the audit trail, and verify it.", no_args_is_help=True)

Since = Annotated[
    datetime | None,
    typer.Option(help="Only from this time on (UTC).", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
]
Kind = Annotated[str | None, typer.Option(help="Only events of this kind.")]


@app.command("list")
def list_events(
    config: ConfigFile = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST, help="How many, newest first.")] = 50,
    kind: Kind = None,
    study: Annotated[str | None, typer.Option(help="Only of this study, by its UID.")] = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """List the latest audit events.

    Example: dicom-node audit list --kind association_rejected
    """
    with database_of(config_now(config)) as database:
        with database.read() as session:
            events = audit.latest(session, limit, kind=kind, study_uid=study)
        _note_reading(database, "list")
    if as_json:
        print_json([_plain(event) for event in events])
        return
    rows = [
        Row(
            (
                str(event.id),
                local_time(event.at),
                event.kind,
                event.peer or "",
                event.study_uid or "",
            ),
            [json.dumps(event.data, ensure_ascii=False)] if event.data else [],
        )
        for event in events
    ]
    header = ("event", "at", "kind", "peer", "study")
    console.print(Listing(header, rows, elastic=4, wide=wide), crop=False)


@app.command()
def verify(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Compute the hash chain again: was an event changed, deleted, put in or moved?

    Exit status: 0 when the trail is whole, 1 when it is not.

    Example: dicom-node audit verify
    """
    from dicom_node.serve import sealing

    loaded = config_now(config)
    with database_of(loaded) as database:
        verdict = sealing.verify(loaded, database, SystemClock().now())
    if as_json:
        print_json(verdict)
    else:
        say(
            f"{verdict.events} events stand as they were sealed, up to position {verdict.last} "
            f"(SHA-256 {verdict.digest}); {verdict.forgotten} forgotten by retention, "
            f"{verdict.unsealed} not sealed yet"
        )
        if verdict.accepted:
            say(f"{verdict.accepted} deviations were accepted by a person")
        for item in verdict.broken:
            say(f"position {item.position}: {item.text}", mark=item.deviation, style="red")
        if verdict.deviations > len(verdict.broken):
            say(f"and {verdict.deviations - len(verdict.broken)} more")
        for event_id in verdict.late[:20]:
            say(
                f"event {event_id} was sealed after events that are an hour younger",
                mark="late",
                style="yellow",
            )
        say("the audit trail is whole" if verdict.whole else "the audit trail is not whole")
    raise typer.Exit(0 if verdict.whole else 1)


@app.command()
def accept(
    reason: Reason,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Accept the trail as it is now, as after a restored backup; what deviates stays on record.

    Example: dicom-node audit accept --reason "database restored from the backup of Sunday"
    """
    from dicom_node.serve import sealing

    loaded = config_now(config)
    with database_of(loaded) as database:
        number = sealing.accept(loaded, database, SystemClock().now(), user(), reason)
    say(f"{number} deviations accepted; the head of the chain is noted anew")


@app.command()
def export(
    config: ConfigFile = DEFAULT_CONFIG,
    form: Annotated[
        Literal["json", "dicom"],
        typer.Option(help="json: every event; dicom: audit messages (XML); one a line."),
    ] = "json",
    since: Since = None,
) -> None:
    """Write the sealed audit trail to standard output, one event a line, in the chain's order.

    Example: dicom-node audit export --form dicom --since 2026-01-01
    """
    from dicom_node.audit import identity_of, message_of

    loaded = config_now(config)
    with database_of(loaded) as database:
        # first: whoever breaks off has read what came before
        _note_reading(database, f"export as {form}")
        with database.read() as session:
            for item in _sealed(session, since):
                if form == "json":
                    typer.echo(json.dumps(_sealed_plain(item), ensure_ascii=False))
                else:
                    text = message_of(item.event, identity_of(loaded), item.link)
                    if text is not None:
                        typer.echo(text)


def _sealed(session: Session, since: datetime | None) -> Iterator[Sealed]:
    for item in chain.sealed(session):
        at = item.event.at.replace(tzinfo=None) if item.event is not None else None
        if at is not None and (since is None or at >= since):
            yield item


def _sealed_plain(item: Sealed) -> dict[str, Any]:
    return {
        "position": item.link.position,
        "digest": item.link.digest,
        **_plain(item.event),
    }


def _plain(event: Any) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "study_uid": event.study_uid,
        "job_id": event.job_id,
        "peer": event.peer,
        "data": event.data,
    }


def _note_reading(database: Database, how: str) -> None:
    """Who read the trail is in the trail, too (PS3.15 section A.5.3.2)."""
    with database.write() as session:
        audit.record(session, SystemClock().now(), "audit_log_read", by=user(), how=how)
