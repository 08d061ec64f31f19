"""`users`: who may use the dashboard and the API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    LARGEST,
    AsJson,
    ConfigFile,
    database_of,
    said,
    say,
    show,
    text_of,
    user,
)
from dicom_node.clock import SystemClock
from dicom_node.config import load_config
from dicom_node.errors import NodeError
from dicom_node.model.access import Role
from dicom_node.store import accounts, sessions
from dicom_node.terminal import Row, local_time

app = typer.Typer(
    help="Who may use the dashboard and the API.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="The user's name.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(help="File with the password in its first line, - for standard input."),
]


@app.command("add")
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = Role.VIEWER,
    password_file: PasswordFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Add a user; the password is asked for.

    Example: dicom-node users add anna --role admin
    """
    loaded = load_config(config)
    with database_of(loaded) as database:
        password_hash = accounts.hash_password(_password(password_file))
        with database.write() as session:
            accounts.add(session, name, role, password_hash, SystemClock().now(), user())
    say(f"added: {name}, {role}")


@app.command("list")
def listed(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the users.

    Example: dicom-node users list
    """
    with database_of(load_config(config)) as database, database.read() as session:
        lines = accounts.listed(session)
    show(
        lines,
        as_json,
        ("name", "role", "logs in by", "since", "sessions"),
        lambda line: Row(
            (line.name, line.role, line.by, local_time(line.created_at), str(line.sessions))
        ),
        "no users yet: `dicom-node users add NAME --role admin`",
    )


@app.command("passwd")
def passwd(
    name: Name, password_file: PasswordFile = None, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Give a user another password; its sessions end.

    Example: dicom-node users passwd anna
    """
    with database_of(load_config(config)) as database:
        password_hash = accounts.hash_password(_password(password_file))
        with database.write() as session:
            accounts.set_password(session, name, password_hash, SystemClock().now(), user())
    say(f"changed: the password of {name}")


@app.command("remove")
def remove(name: Name, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Remove a user with its sessions and tokens.

    Example: dicom-node users remove anna
    """
    with database_of(load_config(config)) as database, database.write() as session:
        accounts.remove(session, name, SystemClock().now(), user())
    say(f"removed: {name}")


@app.command("token")
def token(
    name: Name,
    label: Annotated[str, typer.Option(help="What it is for.", callback=said)],
    role: Annotated[Role, typer.Option(help="What it may do, at most.")] = Role.VIEWER,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Make a token for a user's scripts; it is printed once, alone on standard output.

    Example: dicom-node users token anna --label "nightly report" --role viewer
    """
    with database_of(load_config(config)) as database, database.write() as session:
        made = sessions.add_token(session, name, label, role, SystemClock().now(), user())
    typer.echo(made)


@app.command("tokens")
def tokens(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the scripts' tokens, without the tokens themselves.

    Example: dicom-node users tokens
    """
    with database_of(load_config(config)) as database, database.read() as session:
        lines = sessions.tokens(session)

    def row(line: sessions.TokenLine) -> Row:
        used = local_time(line.last_used_at) if line.last_used_at else "never"
        return Row((str(line.id), line.user, line.role, line.label, used))

    headings = ("number", "user", "role", "label", "last used")
    show(lines, as_json, headings, row, "no tokens")


@app.command("revoke")
def revoke(
    number: Annotated[
        int, typer.Argument(max=LARGEST, help="The token's number, of `users tokens`.")
    ],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Revoke a script's token: its next call is refused.

    Example: dicom-node users revoke 3
    """
    with database_of(load_config(config)) as database, database.write() as session:
        sessions.revoke_token(session, number, SystemClock().now(), user())
    say(f"revoked: token {number}")


def _password(file: Path | None) -> str:
    if file is None:
        if not sys.stdin.isatty():
            raise NodeError(
                "password", "there is no terminal to ask on", "give it with --password-file"
            )
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    if str(file) == "-":
        return sys.stdin.readline().rstrip("\r\n")
    lines = text_of(file).splitlines()
    if not lines:
        raise NodeError(f"file {file}", "it is empty", "put the password into its first line")
    return lines[0]
