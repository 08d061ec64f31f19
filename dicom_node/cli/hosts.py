"""`hosts`: those that each have a data folder of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
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
from dicom_node.store import hosts
from dicom_node.terminal import Listing, Row, local_time

app = typer.Typer(
    help="The hosts that each have a data folder of their own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def listed(
    config: ConfigFile = DEFAULT_CONFIG, wide: Wide = False, as_json: AsJson = False
) -> None:
    """List the hosts: when each was heard of last, and what it holds.

    Example: dicom-node hosts list
    """
    now = SystemClock().now()
    with database_of(config_now(config)) as database, database.read() as session:
        found = [(line, hosts.held_by(session, line.name)) for line in hosts.lines(session)]
    if as_json:
        print_json(
            [{"host": line, "away": line.is_away(now), "holds": held} for line, held in found]
        )
        return
    if not found:
        console.print("no host has a data folder of its own")
        return
    rows = []
    for line, held in found:
        said = [f"runs: {', '.join(line.state.running) or 'nothing'}; {line.state.disk_text}"]
        if line.state.waiting or line.state.aside:
            said.append(f"not indexed yet: {line.state.waiting}; set aside: {line.state.aside}")
        state = "away" if line.is_away(now) else "there"
        heard = local_time(line.heard_at)
        rows.append(
            Row((line.name, line.address, state, heard, str(held.files), str(held.studies)), said)
        )
    columns = ("host", "address", "state", "heard", "files", "studies")
    console.print(Listing(columns, rows, wide=wide), crop=False)


@app.command("forget")
def forget(
    name: Annotated[str, typer.Argument(help="The host.")],
    reason: Reason,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Take out a host that never comes back, with all that it held.

    Jobs that wait for its files fail, and objects that were made there and not sent are given up.
    Send those studies again, or run their jobs again.

    Example: dicom-node hosts forget receiver-2 --reason "its disk is broken"
    """
    with database_of(config_now(config)) as database, database.write() as session:
        held = hosts.forget(session, name, SystemClock().now(), user(), reason)
    say(f"forgotten: {name}, with {held.files} files of {held.studies} studies")
