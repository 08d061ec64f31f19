"""`dicom-node`: the command line. Thin: it parses, calls the package and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node import __version__
from dicom_node.cli import operate, pipelines, routes, sending
from dicom_node.config import InvalidConfigError
from dicom_node.errors import ConfigError, NodeError

app = typer.Typer(
    name="dicom-node",
    help="The DICOM AI node that a hospital puts beside its PACS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(pipelines.app, name="pipelines")

for command in (*operate.COMMANDS, *routes.COMMANDS, *sending.COMMANDS):
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


def main() -> None:
    """Run the command line; errors are told in plain words, never as a traceback.

    Exit status: 0 fine, 1 the work failed, 2 usage or configuration.
    """
    try:
        app()
    except InvalidConfigError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        sys.exit(2)
    except NodeError as error:
        typer.echo(f"{error.what}: {error.why}\n    fix: {error.fix}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def config_path(value: str) -> Path:
    """Parse a --config value."""
    return Path(value)
