"""What several commands share: options, the console, the node's database."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.markup import escape

from dicom_node.config import InvalidConfigError, NodeConfig, load_config
from dicom_node.errors import ConfigError, StoreError
from dicom_node.serve.live import running_config
from dicom_node.store.database import Database
from dicom_node.terminal import Listing, NodeConsole, Row

console = NodeConsole(highlight=False)

Line = TypeVar("Line")

ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="DICOM_NODE_CONFIG", help="The node's configuration file."
    ),
]
DEFAULT_CONFIG = Path("node.yaml")


def said(text: str) -> str:
    """Return what was said; an option that says nothing is refused."""
    if not text.strip():
        raise typer.BadParameter("it is empty; say it in a few words")
    return text.strip()


Reason = Annotated[
    str, typer.Option(help="Why, for the audit trail. No patient data.", callback=said)
]

LARGEST: Final = 2**63 - 1
"""The largest number that a database takes."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Wide = Annotated[bool, typer.Option("--wide", help="Never shorten a UID.")]


def text_of(file: Path) -> str:
    """Return what a text file holds.

    Raises:
        ConfigError: There is none, or it is no UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(file), "there is no such file", "check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(str(file), "it is not UTF-8 text", "save it as UTF-8") from None


def print_json(value: Any) -> None:
    """Print plain data and dataclasses as JSON; times are UTC."""

    def plain(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        if isinstance(item, datetime):
            return item.isoformat()
        return str(item)

    typer.echo(json.dumps(value, default=plain, indent=2))


def say(text: str, *, mark: str = "", style: str = "") -> None:
    """Print a line that may hold anything, after a mark in a colour."""
    shown = f"[{style}]{mark}[/] " if mark and style else f"{mark} " if mark else ""
    console.print(f"{shown}{escape(text)}")


def show(
    lines: Sequence[Line],
    as_json: bool,
    headings: Sequence[str],
    row: Callable[[Line], Row],
    nothing: str,
) -> None:
    """Print a table of lines, or the lines themselves as JSON.

    Args:
        row: Makes a line of the table.
        nothing: Said when there are none.
    """
    if as_json:
        print_json(lines)
    elif lines:
        console.print(Listing(headings, [row(line) for line in lines]))
    else:
        console.print(nothing)


@contextmanager
def database_of(config: NodeConfig) -> Iterator[Database]:
    """Open the database of a node that has run; its tables are not changed.

    Raises:
        StoreError: There is none yet, or it is of another version.
    """
    database = Database(config.database_url)
    try:
        if database.file is not None and not database.file.exists():
            raise StoreError(
                f"database {database.file}",
                "there is none yet",
                "start the node with `dicom-node serve`, or name its node.yaml with --config",
            )
        current, needed = database.check_revision()
        if current != needed:
            raise StoreError(
                "database",
                f"its tables are of revision {current or 'none'}, this version needs {needed}",
                "start the node with this version: that brings them up to date",
            )
        yield database
    finally:
        database.close()


def user() -> str:
    """Return who says so: the account that runs the command."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"user {os.getuid()}"


def config_now(file: Path) -> NodeConfig:
    """Return what the node runs with, also when the file has mistakes by now.

    Raises:
        ConfigError: The file cannot be used, and nothing is known to run with another.
    """
    try:
        return load_config(file)
    except InvalidConfigError:
        running = running_config(file)
        if running is None:
            raise
        return running


def known_peer(config: NodeConfig, name: str) -> str:
    """Return a peer's name.

    Raises:
        ConfigError: `node.yaml` has no such peer.
    """
    if name not in config.peers:
        known = ", ".join(config.peers) or "none"
        raise ConfigError(f"peer {name}", "node.yaml has no such peer", f"known: {known}")
    return name
