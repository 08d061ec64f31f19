"""`database`: its revision, upgrade, rollback and backup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dicom_node import __version__
from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Reason,
    database_of,
    print_json,
    say,
    user,
)
from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig, load_config
from dicom_node.errors import StoreError
from dicom_node.serve.locks import holders
from dicom_node.store import audit, copying
from dicom_node.store.backup import back_up
from dicom_node.store.database import Database

app = typer.Typer(help="The database: its revision, upgrade, rollback, backup.")


@app.command()
def revision(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Say which revision the tables are of, and which one this version needs.

    Exit status: 0 when they are the same, 1 when not.

    Example: dicom-node database revision
    """
    with _as_it_is(load_config(config)) as database:
        current, needed = database.check_revision()
    if as_json:
        print_json({"current": current, "needed": needed, "version": __version__})
    else:
        say(f"the tables are of revision {current or 'none'}")
        say(f"dicom-node {__version__} needs {needed}")
    raise typer.Exit(0 if current == needed else 1)


@app.command()
def upgrade(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Bring the tables up to date; the node does the same when it starts.

    Example: dicom-node database upgrade
    """
    loaded = load_config(config)
    with _as_it_is(loaded) as database:
        before, needed = database.check_revision()
        if before == needed:
            say(f"the tables are up to date ({needed})")
            return
        _must_not_run(loaded)
        database.migrate()
        with database.write() as session:
            audit.record(
                session,
                SystemClock().now(),
                "database_upgraded",
                by=user(),
                before=before,
                after=needed,
                version=__version__,
            )
    say(f"the tables went from {before or 'none'} to {needed}")


@app.command()
def rollback(
    to: Annotated[str, typer.Argument(help="The revision that the older version needs.")],
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Bring the tables back to an older version's; what only the newer ones keep is lost.

    The node must be stopped. Make a backup first.

    Example: dicom-node database rollback 0006 --reason "back to version 0.1.0"
    """
    loaded = load_config(config)
    with database_of(loaded) as database:
        current, _ = database.revision()
        older = database.older_revisions()
        if to not in older:
            known = ", ".join(older) or "none"
            raise StoreError(f"revision {to}", "there is no such older one", f"older are: {known}")
        _must_not_run(loaded)
        say(
            f"the tables go from {current} back to {to}; what the newer ones keep is deleted",
            mark="warning:",
            style="yellow",
        )
        if not yes:
            typer.confirm("Is there a backup, and shall it be done?", abort=True)
        # before: the trail's own tables may change as well
        with database.write() as session:
            audit.record(
                session,
                SystemClock().now(),
                "database_rollback_asked",
                by=user(),
                reason=reason,
                before=current,
                to=to,
                version=__version__,
            )
        database.roll_back(to)
    say(f"the tables are of revision {to}; start the version that needs it")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The new file that the copy goes into.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Copy the SQLite database into a file, also while the node runs.

    With PostgreSQL use `pg_dump`. Spool and reports are files: copy them after the database.

    Example: dicom-node database backup /backup/node.sqlite3
    """
    with database_of(load_config(config)) as database:
        size = back_up(database, file)
        with database.write() as session:
            audit.record(session, SystemClock().now(), "database_backed_up", by=user(), bytes=size)
    say(f"{file}: {size} bytes, checked. It holds patient data")


@app.command()
def copy(
    to: Annotated[str, typer.Option(help="SQLAlchemy URL of the new, empty database.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Copy everything into another database, as from SQLite to PostgreSQL, of a stopped node.

    Example: dicom-node database copy --to postgresql+psycopg://dicom_node@db/dicom_node
    """
    loaded = load_config(config)
    _must_not_run(loaded)
    target = Database(to)
    try:
        with database_of(loaded) as source:
            copied = copying.copy(source, target)
    finally:
        target.close()
    for table, rows in copied.items():
        say(f"{table}: {rows}")
    say("name the new database in `node.database_url`, then start the node")


@contextmanager
def _as_it_is(config: NodeConfig) -> Iterator[Database]:
    """Open the database, whatever revision its tables are of."""
    database = Database(config.database_url)
    try:
        if database.file is not None and not database.file.exists():
            raise StoreError(
                f"database {database.file}", "there is none yet", "`dicom-node serve` makes it"
            )
        yield database
    finally:
        database.close()


def _must_not_run(config: NodeConfig) -> None:
    running = sorted(holders(config.node.data_dir))
    if running:
        raise StoreError(
            "the node", f"it runs ({', '.join(running)})", "stop it on every host, then try again"
        )
