"""`status`, `jobs`: seeing what the node did and what waits."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    LARGEST,
    AsJson,
    ConfigFile,
    Wide,
    config_now,
    console,
    database_of,
    print_json,
)
from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig, load_config
from dicom_node.errors import NodeError
from dicom_node.model.alerts import Severity
from dicom_node.model.states import JobState
from dicom_node.serve import reloading
from dicom_node.serve.disk import DiskLevel, DiskState, disk_state
from dicom_node.serve.locks import holders
from dicom_node.serve.story import Step, story
from dicom_node.store import alerts, audit, figures, fitness, hosts, overview
from dicom_node.terminal import (
    Listing,
    Row,
    jobs_table,
    local_time,
    state_text,
    studies_table,
)

_REFUSALS_OF: Final = timedelta(hours=24)
"""What callers were refused is shown for so long."""
_HELD_SHOWN: Final = 10
_TONES: Final = {"good": "green", "bad": "red", "warn": "yellow", "person": "bold"}


def status(
    config: ConfigFile = DEFAULT_CONFIG,
    study: Annotated[
        str | None, typer.Argument(help="A Study Instance UID: only this one, with its story.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=LARGEST, help="How many studies, newest first.")
    ] = 20,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Show whether the node runs, what waits, and what became of the studies.

    Example: dicom-node status

    Example: dicom-node status 1.2.840.113619.2.55
    """
    loaded = config_now(config)
    with database_of(loaded) as database, database.read() as session:
        counts = overview.counts(session)
        refused = overview.refusals(session, SystemClock().now() - _REFUSALS_OF)
        notices = reloading.notices(config, loaded, session)
        waiting = overview.held(session)
        suspects = overview.suspects(session)
        unfit = fitness.unfit(session)
        firing = alerts.alerts_firing(session)
        channels = alerts.channel_lines(session)
        counted = figures.figures(session, SystemClock().now()) if as_json and not study else None
        away = hosts.away(session, SystemClock().now())
        lines = overview.studies(session, limit, study)
        events = list(audit.events_of(session, study)) if study else []
    if study and not lines:
        raise NodeError(
            f"study {study}", "it is not in the index", "see `dicom-node status` for those that are"
        )
    running = holders(loaded.node.data_dir)
    spool = overview.spool_counts(loaded.spool_dir)
    disk = disk_state(loaded)
    if as_json:
        told = [
            {"at": event.at, "kind": event.kind, "peer": event.peer, "data": event.data}
            for event in events
        ]
        print_json(
            {
                "running": running,
                "configuration": notices,
                "spool": spool,
                "disk": disk,
                "hosts_away": away,
                "held": waiting,
                "suspects": suspects,
                "disabled": unfit,
                "alerts": firing,
                "channels": channels,
                "figures": _figures(counted),
                "refusals": refused,
                "counts": counts,
                "studies": lines,
                "events": told,
            }
        )
        return
    if study is None:
        for notice in notices:
            console.print(Text(f"configuration: {notice}", style="red"))
        for gone in away:
            words = f"host {gone.host} does not answer since {local_time(gone.since)}: {gone.text}"
            console.print(Text(words, style="red"))
        for text in [*_alerts(firing, channels), *_needs_a_person(waiting, suspects)]:
            console.print(text)
        for name, why in unfit.items():
            line = f"pipeline {name} is disabled, its self-test differs: {why}"
            fix = f"`dicom-node pipelines selftest {name}` when the cause is gone"
            console.print(Text(f"{line}; {fix}", style="red"))
        for text in _summary(loaded, running, spool, disk, counts, refused):
            console.print(text)
    if lines:
        console.print(studies_table(lines, wide=wide), crop=False)
    if events:
        console.print(Listing(("", ""), [_step(step) for step in story(events)]))


def jobs(
    config: ConfigFile = DEFAULT_CONFIG,
    state: Annotated[JobState | None, typer.Option(help="Only jobs of this state.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only jobs of this pipeline.")] = None,
    study: Annotated[
        str | None, typer.Option(help="Only jobs on this study, by its Study Instance UID.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=LARGEST, help="How many, newest first.")] = 50,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """List jobs: which pipeline on which study, and how it ended.

    Example: dicom-node jobs --state failed
    """
    with database_of(load_config(config)) as database, database.read() as session:
        lines = overview.jobs(session, limit, state, pipeline=pipeline, study_uid=study)
    if as_json:
        print_json(lines)
    elif lines:
        console.print(jobs_table(lines, wide=wide), crop=False)
    else:
        console.print("no job fits" if state or pipeline or study else "no jobs yet")


def _alerts(firing: list[alerts.AlertLine], channels: list[alerts.ChannelLine]) -> list[Text]:
    """What fires, and the channels that cannot tell it."""
    lines = [
        Text(
            f"alert: {line.text} Since {local_time(line.since)}. {line.fix}",
            style="red" if line.severity == Severity.CRITICAL else "yellow",
        )
        for line in firing
    ]
    lines += [
        Text(
            f"alert channel {line.channel}: {line.waiting} messages wait: {line.trouble}",
            style="yellow",
        )
        for line in channels
        if line.trouble
    ]
    return lines


def _figures(counted: figures.Figures | None) -> dict[str, Any] | None:
    """The figures as JSON has them: a pair of names as one key."""
    if counted is None:
        return None
    return {
        name: {
            " ".join(key) if isinstance(key, tuple) else key: item for key, item in value.items()
        }
        if isinstance(value, dict)
        else value
        for name, value in asdict(counted).items()
    }


def _needs_a_person(
    held: list[overview.HeldLine], suspects: list[overview.SuspectLine]
) -> list[Text]:
    """What waits for somebody: above everything else."""
    lines = [
        Text(
            f"held: study {line.study_uid}: {line.text} (`dicom-node release` or `discard`)",
            style="red",
        )
        for line in held[:_HELD_SHOWN]
    ]
    if len(held) > _HELD_SHOWN:
        more = len(held) - _HELD_SHOWN
        lines.append(Text(f"held: {more} more studies, see `dicom-node held`", style="red"))
    lines += [
        Text(
            f"suspect: pipeline {line.pipeline}, since {local_time(line.since)}: {line.why}",
            style="yellow",
        )
        for line in suspects
    ]
    return lines


def _summary(
    config: NodeConfig,
    running: dict[str, int],
    spool: overview.SpoolCounts,
    disk: DiskState,
    counts: overview.Counts,
    refused: list[overview.RefusalLine],
) -> list[Text]:
    def part(numbers: dict[str, int]) -> Text:
        parts = [Text(f"{number} ").append_text(state_text(s)) for s, number in numbers.items()]
        return Text(", ").join(parts) if parts else Text("none")

    roles = ", ".join(f"{name.partition('-')[0]} (process {pid})" for name, pid in running.items())
    lines = [
        Text(f"running: {roles}")
        if running
        else Text(f"running: nothing runs on {config.node.data_dir}", style="red")
    ]
    if disk.level is not DiskLevel.OK:
        style = "red" if disk.level is DiskLevel.FULL else "yellow"
        lines.append(Text(f"disk: {disk.level}; {disk.seen}", style=style))
    if spool.waiting:
        lines.append(Text(f"spool: {_files(spool.waiting)} not indexed yet"))
    if spool.aside:
        where = config.spool_dir / "aside"
        lines.append(Text(f"set aside: {_files(spool.aside)} in {where}", style="yellow"))
    studies = Text("studies: ").append_text(part(counts.studies))
    if counts.unrouted:
        studies.append(f"; {counts.unrouted} that no route wanted")
    lines += [studies, Text("jobs: ").append_text(part(counts.jobs))]
    for peer, numbers in counts.deliveries.items():
        lines.append(Text(f"to {peer}: ").append_text(part(numbers)))
    for line in refused:
        who = " ".join(filter(None, (line.calling_ae or "a caller without a title", line.address)))
        times = "once" if line.times == 1 else f"{line.times} times"
        lines.append(
            Text(
                f"refused: {who}, {times}, last {local_time(line.last_at)}: {line.reason}",
                style="yellow",
            )
        )
    return lines


def _step(step: Step) -> Row:
    """One line of a study's story, the reason or the answer below."""
    times = f", {step.times} times" if step.times > 1 else ""
    text = Text(f"{step.text}{times}", style=_TONES.get(step.tone, ""))
    return Row((local_time(step.at), text), [step.more] if step.more else [])


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


COMMANDS = (status, jobs)
