"""The command line as a user has it: arguments in; exit status, output and errors back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import typer
from typer.testing import CliRunner

from dicom_node.cli.app import main


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit status, standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


_outer = typer.Typer(add_completion=False)


@_outer.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def _main(context: typer.Context) -> None:
    main(context.args)


def dicom_node(*arguments: object, **environment: str) -> Ended:
    """Run `dicom-node` by its `main`, not attached to a terminal.

    An exception that `main` lets through fails the test: a user would see a traceback.
    """
    result = CliRunner(env=environment).invoke(_outer, [str(item) for item in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    ended = Ended(result.exit_code, result.stdout, result.stderr)
    assert "Traceback" not in ended.out + ended.err
    return ended
