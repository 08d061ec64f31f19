"""`dicom-node`: the command line. Thin: it parses, calls the package and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from dicom_node import __version__
from dicom_node.cli import (
    alerting,
    auditing,
    backfill,
    configuring,
    database,
    hosts,
    lifecycle,
    look,
    operate,
    pipelines,
    routes,
    sending,
    users,
)
from dicom_node.config import InvalidConfigError
from dicom_node.errors import ConfigError, NodeError
from dicom_node.logs import place_of

app = typer.Typer(
    name="dicom-node",
    help="The DICOM AI node that a hospital puts beside its PACS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    # plain help and plain errors: no boxes, on whatever terminal
    rich_markup_mode=None,
)
app.add_typer(pipelines.app, name="pipelines")
app.add_typer(users.app, name="users")
app.add_typer(alerting.app, name="alerts")
app.add_typer(auditing.app, name="audit")
app.add_typer(configuring.app, name="config")
app.add_typer(database.app, name="database")
app.add_typer(hosts.app, name="hosts")

for command in (
    *operate.COMMANDS,
    *lifecycle.COMMANDS,
    *look.COMMANDS,
    *routes.COMMANDS,
    *sending.COMMANDS,
    *backfill.COMMANDS,
    *configuring.COMMANDS,
):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicom-node {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors are told in plain words, never as a traceback.

    Exit status: 0 fine, 1 the work failed, 2 usage or configuration.

    Args:
        arguments: Instead of the process's own.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a terminal that lacks a character shows "?" for it
            stream.reconfigure(errors="replace")
    try:
        app(arguments, prog_name="dicom-node")
    except InvalidConfigError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        sys.exit(2)
    except NodeError as error:
        _tell(error.what, error.why, error.fix)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except SQLAlchemyError as error:
        # of the driver's own error only the text: a statement's values may hold patient data
        said = str(getattr(error, "orig", None) or type(error).__name__)
        _tell("database", said, "`dicom-node check` looks at it; is another program using it?")
        sys.exit(1)
    except OSError as error:
        where = str(error.filename or "the system")
        _tell(where, error.strerror or type(error).__name__, "check its rights, space and health")
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last line before a traceback in a user's face
        # neither the message nor the values: both may hold patient data
        _tell(
            "dicom-node",
            f"a mistake of its own: {type(error).__name__} at {place_of(error)}",
            "report this line, the command and the version (`dicom-node --version`)",
        )
        sys.exit(1)


def _tell(what: str, why: str, fix: str) -> None:
    typer.echo(f"{what}: {why}\n    fix: {fix}", err=True)
