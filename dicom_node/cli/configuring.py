"""`reload` and `config …`: changing a node that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    LARGEST,
    AsJson,
    ConfigFile,
    config_now,
    database_of,
    print_json,
    say,
    show,
    text_of,
    user,
)
from dicom_node.clock import SystemClock
from dicom_node.config import InvalidConfigError
from dicom_node.errors import ConfigError, NodeError
from dicom_node.serve.reloading import Reloaded
from dicom_node.store import configurations
from dicom_node.terminal import Row, local_time

if TYPE_CHECKING:
    from dicom_node.serve.configuring import Configuring

app = typer.Typer(help="See and change node.yaml with its history.", no_args_is_help=True)

NewFile = Annotated[Path, typer.Argument(help="A file with the new text of node.yaml.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the history and the audit trail.")]
Base = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="SHA256",
        help="What `config diff` compared with: refuse when node.yaml holds another text by now. "
        "Without it: node.yaml as it is.",
    ),
]
_SHOWN: Final = 10
_SHA256: Final = re.compile(r"[0-9a-f]{8,64}")
_SHORT: Final = 12
"""Digits of a SHA-256 that a person is shown."""


def reload(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let the running node take routes, peers and the like from node.yaml again.

    No association is dropped. A file with mistakes changes nothing, and says so. Exit status: 0
    taken, 1 nothing runs, or not every role has answered, 2 the file has mistakes.

    Example: dicom-node reload
    """
    from dicom_node.serve.reloading import ask_for_reload

    now = config_now(config)
    with database_of(now) as database:
        reloaded = ask_for_reload(now, database)
    if as_json:
        print_json(reloaded)
    else:
        _tell(reloaded)
    if reloaded.line is not None and not reloaded.line.taken:
        raise typer.Exit(2)
    if reloaded.line is None or reloaded.late:
        raise typer.Exit(1)


@app.command("check")
def check(new: NewFile, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Check a new text; each mistake with its line.

    Example: dicom-node config check new.yaml
    """
    with _configuring(config) as configuring:
        proposal = configuring.propose(text_of(new))
    if proposal.problems:
        raise InvalidConfigError(new, [*proposal.problems])
    say("it can be applied", mark="ok  ", style="green")
    _restart(proposal.needs_restart)


@app.command("diff")
def diff(
    new: NewFile,
    config: ConfigFile = DEFAULT_CONFIG,
    last: Annotated[
        int, typer.Option(min=0, help="Try the routes on so many of the last studies.")
    ] = 500,
    as_json: AsJson = False,
) -> None:
    """Compare a new text with node.yaml, and try its routes on the last studies.

    Example: dicom-node config diff new.yaml --last 500
    """
    text = text_of(new)
    with _configuring(config) as configuring:
        proposal = configuring.propose(text)
        if proposal.problems:
            raise InvalidConfigError(new, [*proposal.problems])
        tried = configuring.dry_run(text, last)
    if as_json:
        print_json(
            {
                "base": proposal.base,
                "diff": proposal.diff,
                "needs_restart": proposal.needs_restart,
                "dry_run": tried,
            }
        )
        return
    for line in proposal.diff.splitlines():
        say(line)
    _restart(proposal.needs_restart)
    say(f"the routes would have changed {len(tried.changed)} of the last {tried.studies} studies")
    for item in tried.changed[:_SHOWN]:
        say(f"  {item.study_uid}: {'; '.join(item.now)} -> {'; '.join(item.then)}")
    if len(tried.changed) > _SHOWN:
        say(f"  and {len(tried.changed) - _SHOWN} more: see --json")
    say(f"to apply it to the text that it was compared with: --base {proposal.base[:_SHORT]}")


@app.command("apply")
def apply(new: NewFile, why: Why, config: ConfigFile = DEFAULT_CONFIG, base: Base = "") -> None:
    """Write a new text into node.yaml and let the node take it.

    Example: dicom-node config apply new.yaml --why "second CT scanner" --base 3f9a1c07b2de
    """
    text = text_of(new)
    with _configuring(config) as configuring:
        done = configuring.apply(text, base=_whole(base, configuring), by=_account(), why=why)
    say(f"configuration {done.number} is written to {config}")
    _tell(done.reloaded)


@app.command("history")
def history(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List what node.yaml has held: when, by whom and why.

    Example: dicom-node config history
    """
    with database_of(config_now(config)) as database, database.read() as session:
        lines = configurations.history(session)
    show(
        lines,
        as_json,
        ("number", "from", "by"),
        lambda line: Row((str(line.id), local_time(line.at), line.by), [line.why]),
        "no history yet",
    )


@app.command("rollback")
def rollback(
    number: Annotated[int, typer.Argument(max=LARGEST, help="Its number in the history.")],
    why: Why,
    config: ConfigFile = DEFAULT_CONFIG,
    base: Base = "",
) -> None:
    """Write an earlier text into node.yaml again and let the node take it.

    Example: dicom-node config rollback 3 --why "the new route was wrong"
    """
    with _configuring(config) as configuring:
        found = _whole(base, configuring)
        done = configuring.roll_back(number, base=found, by=_account(), why=why)
    say(f"configuration {done.number}, the text of {number}, is written to {config}")
    _tell(done.reloaded)


@contextmanager
def _configuring(file: Path) -> Iterator[Configuring]:
    from dicom_node.serve.configuring import Configuring

    now = config_now(file)
    with database_of(now) as database:
        yield Configuring(file, now, database, SystemClock())


def _whole(base: str, configuring: Configuring) -> str:
    """Return the SHA-256 that a person gave the beginning of; of the file as it is for none."""
    _, now = configuring.current()
    if not base:
        return now
    if not _SHA256.fullmatch(base.lower()):
        raise ConfigError(
            f"--base {base}",
            "it is not the beginning of a SHA-256 (8 to 64 digits)",
            "copy it from `dicom-node config diff`",
        )
    return now if now.startswith(base.lower()) else base


def _account() -> str:
    return f"{user()} (command line)"


def _restart(keys: Sequence[str]) -> None:
    if keys:
        say(f"needs a restart: {', '.join(keys)}", mark="warn", style="yellow")


def _tell(reloaded: Reloaded) -> None:
    line = reloaded.line
    if not reloaded.running:
        say("nothing runs here: the file is taken at the next start", mark="warn", style="yellow")
    elif line is None:
        raise NodeError("reload", "the node has not answered in time", "see its log")
    elif line.taken:
        say("the node has taken it", mark="ok  ", style="green")
        if reloaded.late:
            names = ", ".join(reloaded.late)
            say(f"not yet by it: {names} (see the log)", mark="warn", style="yellow")
        _restart(line.needs_restart)
    else:
        for problem in line.problems:
            say(problem, mark="fail", style="red")
        say("the node goes on with what it had")


COMMANDS = (reload,)
