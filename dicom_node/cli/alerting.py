"""`alerts`: what is wrong, and whether those who are to be told can be told."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Wide,
    config_now,
    console,
    database_of,
    print_json,
    say,
)
from dicom_node.clock import SystemClock
from dicom_node.errors import ConfigError, NodeError
from dicom_node.store import alerts as known
from dicom_node.terminal import Listing, Row, local_time

app = typer.Typer(help="See what is wrong, and try the alert channels.", no_args_is_help=True)


@app.command("list")
def list_alerts(
    config: ConfigFile = DEFAULT_CONFIG,
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """List the alerts that fire, and what became of the messages to each channel.

    Example: dicom-node alerts list
    """
    with database_of(config_now(config)) as database, database.read() as session:
        lines = known.alerts(session) if every else known.alerts_firing(session)
        channels = known.channel_lines(session)
    if as_json:
        print_json({"alerts": lines, "channels": channels})
        return
    if lines:
        rows = [
            Row(
                (line.rule, line.subject, line.severity, line.state, local_time(line.since)),
                [line.text, *([f"fix: {line.fix}"] if line.state == "firing" else [])],
            )
            for line in lines
        ]
        header = ("rule", "of", "severity", "state", "since")
        console.print(Listing(header, rows, elastic=1, wide=wide), crop=False)
    else:
        console.print("no alert fires")
    for channel in channels:
        say(_channel(channel))


@app.command("test")
def try_channels(
    config: ConfigFile = DEFAULT_CONFIG,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
) -> None:
    """Send a trial message to each channel of node.yaml, now and once.

    Exit status: 0 when every channel took it, 1 when one did not.

    Example: dicom-node alerts test
    """
    from dicom_node.alerts.channels import channel_of, where
    from dicom_node.alerts.notes import trial

    loaded = config_now(config)
    sections = loaded.alerts.channels
    if channel is not None and channel not in sections:
        names = ", ".join(sections) or "none"
        raise ConfigError(f"channel {channel}", "node.yaml has no such channel", f"known: {names}")
    if not sections:
        raise ConfigError(
            "alerts.channels", "node.yaml has none", "add one: see docs/configure.md, `alerts`"
        )
    failed = False
    notice = trial(loaded.node.ae_title[0], SystemClock().now())
    for name, section in sections.items():
        if channel not in (None, name):
            continue
        try:
            channel_of(section).send(notice)
        except NodeError as error:
            failed = True
            say(f"{name}: {error.what}: {error.why}", mark="fail", style="red")
            say(f"    fix: {error.fix}")
        else:
            say(f"{name}: taken ({where(section)})", mark="ok", style="green")
    raise typer.Exit(1 if failed else 0)


def _channel(line: known.ChannelLine) -> str:
    told = [f"channel {line.channel}: {line.waiting} waiting"]
    if line.given_up:
        told.append(f"{line.given_up} given up")
    if line.last_sent_at:
        told.append(f"last sent {local_time(line.last_sent_at)}")
    if line.trouble:
        told.append(f"not taken: {line.trouble}")
    return ", ".join(told)
