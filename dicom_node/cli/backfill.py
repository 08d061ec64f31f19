"""`backfill`: studies of the past, pulled from a peer and analysed as new ones."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import Annotated

import typer
from rich.progress import Progress

from dicom_node.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    console,
    database_of,
    known_peer,
    print_json,
    say,
    user,
)
from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig
from dicom_node.errors import ConfigError, NodeError
from dicom_node.logs import set_up_logging
from dicom_node.retrieve.found import FoundStudy
from dicom_node.serve.backfill import Backfill, Outcome, Step
from dicom_node.serve.locks import hold, holders
from dicom_node.serve.pace import Hours, Pace, parse_rate
from dicom_node.serve.signals import by_thread
from dicom_node.serve.wanted import Wanted, modalities_of, regions_of
from dicom_node.store.spool import Spool

_DAY = ["%Y-%m-%d"]


def backfill(
    peer: Annotated[str, typer.Option(help="The peer's name in node.yaml.")],
    modality: Annotated[list[str], typer.Option(help="DX; may be given several times.")],
    first: Annotated[datetime, typer.Option("--from", formats=_DAY, help="First study date.")],
    last: Annotated[datetime, typer.Option("--to", formats=_DAY, help="Last study date, too.")],
    config: ConfigFile = DEFAULT_CONFIG,
    body_part: Annotated[
        list[str] | None,
        typer.Option(help="Only these, as routes name them; what names none is pulled, too."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what is to do.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Pull at most so many studies.")] = None,
    rate: Annotated[
        str | None, typer.Option(help="Begin at most so many studies: 30/min, 200/h.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option(help="Pull only at these local times: 20:00-06:00.")
    ] = None,
    most_queued: Annotated[
        int, typer.Option(min=1, help="Wait while so many jobs wait for a worker.")
    ] = 200,
    route_again: Annotated[
        bool, typer.Option("--route-again", help="Route again what is here, as after a new route.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pull a peer's studies of some days, so that they are analysed as new ones are.

    What is here is not pulled again. Stopped (Ctrl-C) and started again, it goes on where it was.

    Exit status: 0 when none failed, is left (but by --limit) or was not told, else 1.

    Example: dicom-node backfill --peer pacs --modality DX --body-part knee --from 2026-10-01
    --to 2026-10-31 --dry-run
    """
    from dicom_node.serve.archives import archive_of
    from dicom_node.serve.roles import load_all

    set_up_logging("backfill")
    loaded, bundles = load_all(config)
    known_peer(loaded, peer)
    if first > last:
        raise ConfigError("--from", "it is after --to", "give the earlier day first")
    if not (yes or dry_run or console.is_terminal):
        raise ConfigError("backfill", "nobody is there to be asked", "give --yes, or --dry-run")
    wanted = Wanted(
        first.date(),
        last.date(),
        modalities_of(modality),
        regions_of(body_part or []),
    )
    pipelines = {name: (item.version, item.weights_sha256) for name, item in bundles.items()}
    with database_of(loaded) as database, _alone(loaded), _stoppable() as stop:
        spool = Spool(loaded.spool_dir)
        archive = archive_of(loaded, peer, spool)
        work = Backfill(
            peer,
            archive,
            wanted,
            database=database,
            pipelines=pipelines,
            clock=SystemClock(),
            wait=stop.wait,
            first_wait=loaded.retry.first_seconds,
            by=user(),
            route_again=route_again,
        )
        pace = Pace(
            loaded,
            database,
            SystemClock(),
            hours=Hours.parse(hours) if hours else None,
            interval=parse_rate(rate) if rate else timedelta(0),
            most_queued=most_queued,
        )
        run = _Run(work, peer, quiet=as_json)
        try:
            studies = run.search(len(wanted.days), stop)
            if dry_run:
                run.look(studies)
            elif studies and (yes or typer.confirm(_question(len(studies), peer))):
                _warn_when_nothing_runs(loaded)
                run.pull(studies, pace, limit)
        finally:
            archive.close()
            spool.close()
            run.tell(dry_run=dry_run)
    run.end(dry_run=dry_run)


class _Run:
    """One run: its bars, its lines, its numbers."""

    def __init__(self, work: Backfill, peer: str, *, quiet: bool) -> None:
        self._work = work
        self._peer = peer
        self._quiet = quiet
        self._counts: Counter[Outcome] = Counter()
        self._failed: list[Step] = []
        self._to_pull: list[str] = []
        self._cut: list[str] = []
        self._found = 0
        self._stopped = False
        self._limited = False

    def search(self, days: int, stop: threading.Event) -> list[FoundStudy]:
        found: list[FoundStudy] = []
        with self._bar() as progress:
            task = progress.add_task(f"asking {self._peer}", total=days)
            for day in self._work.search():
                found += day.new
                if day.cut:
                    self._cut.append(f"{day.day}")
                progress.update(task, advance=1, description=f"{day.day}: {len(found)} found")
                if stop.is_set():
                    self._stopped = True
                    return []
        self._found = len(found)
        return found

    def look(self, studies: Sequence[FoundStudy]) -> None:
        with self._bar() as progress:
            task = progress.add_task("looking", total=len(studies))
            for step in self._work.look(studies):
                self._count(step)
                if step.outcome is Outcome.PULLED:
                    self._to_pull.append(step.study_uid)
                progress.advance(task)

    def pull(self, studies: Sequence[FoundStudy], pace: Pace, limit: int | None) -> None:
        with self._bar() as progress:
            task = progress.add_task("pulling", total=len(studies))
            for step in self._work.run(studies, pace):
                if not isinstance(step, Step):
                    progress.update(task, description=f"waits: {step.reason}")
                    if not console.is_terminal:
                        self._say(f"waits: {step.reason}")
                    continue
                self._count(step)
                progress.update(task, advance=1, description="pulling")
                if limit is not None and self._counts[Outcome.PULLED] == limit:
                    self._limited = True
                    break

    def tell(self, *, dry_run: bool) -> None:
        """Print what was done, however it ended."""
        numbers = {str(outcome): self._counts[outcome] for outcome in Outcome}
        left = self._found - self._counts.total()
        if self._quiet:
            print_json(
                {
                    "peer": self._peer,
                    "dry_run": dry_run,
                    "found": self._found,
                    **{name.replace(" ", "_"): number for name, number in numbers.items()},
                    "left": left,
                    "to_pull": self._to_pull,
                    "failures": {step.study_uid: step.text for step in self._failed},
                    "days_cut": self._cut,
                }
            )
            return
        for step in self._failed:
            say(f"{step.study_uid}: {step.text}", mark="failed:", style="red")
        for day in self._cut:
            say(f"{day}: {self._peer} does not tell all studies of it", mark="cut:", style="yellow")
        if dry_run:
            numbers["to pull"] = numbers.pop(Outcome.PULLED)
            numbers["to route again"] = numbers.pop(Outcome.ROUTED_AGAIN)
        told = [f"{number} {name}" for name, number in numbers.items() if number]
        if left:
            told.append(f"{left} left")
        say(", ".join([f"{self._found} studies found", *told]))

    def end(self, *, dry_run: bool) -> None:
        """Raise when the work is not done."""
        left = 0 if dry_run or self._limited else self._found - self._counts.total()
        if self._failed or left or self._cut or self._stopped:
            raise NodeError(
                f"backfill from {self._peer}",
                "some studies failed, are left, or were not told",
                "run the same command again: it goes on where it was",
            )

    def _count(self, step: Step) -> None:
        self._counts[step.outcome] += 1
        if step.outcome is Outcome.FAILED:
            self._failed.append(step)

    def _bar(self) -> Progress:
        return Progress(console=console, disable=self._quiet or not console.is_terminal)

    def _say(self, text: str) -> None:
        if not self._quiet:
            say(text)


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Let the first Ctrl-C or SIGTERM end the work after the study in hand."""
    stop = threading.Event()

    def end() -> None:
        typer.echo("ends after this study; once more: at once", err=True)
        stop.set()

    times = 0
    ask = by_thread(end)

    def told(number: int, _: FrameType | None) -> None:
        nonlocal times
        times += 1
        if times > 1:
            raise KeyboardInterrupt
        ask()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _alone(config: NodeConfig) -> Iterator[None]:
    held = hold(config.node.data_dir, "backfill")
    if held is None:
        raise NodeError(
            "backfill", "another one runs on this data folder", "wait for its end, or stop it"
        )
    with held:
        yield


def _question(number: int, peer: str) -> str:
    return f"Look through {number} studies of {peer} and pull what is not here?"


def _warn_when_nothing_runs(config: NodeConfig) -> None:
    if not any(name.startswith("receiver") for name in holders(config.node.data_dir)):
        typer.echo("warning: no `dicom-node serve` runs on this data folder", err=True)


COMMANDS = (backfill,)
