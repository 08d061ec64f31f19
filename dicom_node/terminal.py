"""What the commands print: listings that a person can read in 80 columns and a pipe can grep.

A listing has one line of columns for each thing and, below it, lines of words as wide as the
terminal. Into a pipe or a file nothing is wrapped, shortened or coloured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.text import Text

from dicom_node.model.states import DeliveryState, JobState
from dicom_node.store import overview

_COLOURS: Final = {
    "done": "green",
    "sent": "green",
    "committed": "green",
    "ok": "green",
    "warn": "yellow",
    "not_evaluated": "yellow",
    "failed": "red",
    "fail": "red",
}
_PLAIN_SUCCESS: Final = ("status 0x0000 (Success)", "HTTP 200")
"""Answers of peers that are not worth a line."""
_UNLIMITED: Final = 100_000
_GAP: Final = "  "
_INDENT: Final = 4
_SHORTEST: Final = 16


class NodeConsole(Console):
    """A console whose lines have no end where no terminal wraps them."""

    @property
    def size(self) -> ConsoleDimensions:
        if not self.is_terminal and "COLUMNS" not in os.environ:
            return ConsoleDimensions(_UNLIMITED, 25)
        return super().size

    @size.setter
    def size(self, new: tuple[int, int]) -> None:
        self._width, self._height = new


def coloured(state: str) -> str:
    """Return a state as rich markup."""
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=_COLOURS.get(state, ""))


def local_time(at: datetime) -> str:
    """Return a time in the machine's zone, with its offset from UTC."""
    return at.astimezone().isoformat(sep=" ", timespec="seconds")


def shortened(text: str, width: int) -> str:
    """Shorten a long word in its middle: a UID's ends tell it from others."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing: its columns, and the lines of words below them."""

    cells: Sequence[str | Text]
    details: Sequence[str | Text] = ()


class Listing:
    """Rows with a heading, made for the width at hand.

    Args:
        elastic: Index of the column that is shortened when a line would be too long.
        wide: Never shorten.
    """

    def __init__(
        self,
        headings: Sequence[str],
        rows: Sequence[Row],
        *,
        elastic: int | None = None,
        wide: bool = False,
    ) -> None:
        self._headings = headings
        self._rows = rows
        self._elastic = None if wide else elastic

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = [[_text(cell) for cell in row.cells] for row in self._rows]
        widths = [
            max([cell_len(heading), *(cell_len(line[column].plain) for line in table)])
            for column, heading in enumerate(self._headings)
        ]
        if self._elastic is not None:
            over = sum(widths) + len(_GAP) * (len(widths) - 1) - options.max_width
            if over > 0:
                widths[self._elastic] = max(_SHORTEST, widths[self._elastic] - over)
        if any(self._headings):
            yield _line([Text(item, style="bold") for item in self._headings], widths)
        for row, cells in zip(self._rows, table, strict=True):
            yield _line(cells, widths)
            for detail in row.details:
                words = _text(detail)
                for part in words.wrap(console, max(20, options.max_width - _INDENT)):
                    yield Text(" " * _INDENT) + part


def studies_table(lines: Sequence[overview.StudyLine], *, wide: bool = False) -> Listing:
    """Render studies, each with its jobs and deliveries below."""
    rows = [
        Row(
            (
                line.study_uid,
                f"{line.instances} {line.modality}".strip(),
                ", ".join(line.senders),
                line.state,
                local_time(line.last_instance_at),
            ),
            [
                *_held(line),
                *_no_route(line),
                *(text for job in line.jobs for text in _job_lines(job)),
            ],
        )
        for line in lines
    ]
    return Listing(("study", "images", "from", "state", "last image"), rows, elastic=0, wide=wide)


def jobs_table(lines: Sequence[overview.JobLine], *, wide: bool = False) -> Listing:
    """Render jobs, each with its times and its result or error below."""
    rows = []
    for line in lines:
        ended = f", ended {local_time(line.finished_at)}" if line.finished_at else ""
        said = line.error or line.statement or line.reason
        times = f"queued {local_time(line.queued_at)}{ended}; {_tries(line.attempts)}"
        missing = [f"left out {item}" for item in line.left_out]
        rows.append(
            Row(
                (str(line.id), state_text(line.state), line.pipeline, line.study_uid),
                [times, *([said] if said else []), *missing],
            )
        )
    return Listing(("job", "state", "pipeline", "study"), rows, elastic=3, wide=wide)


def _held(line: overview.StudyLine) -> list[Text]:
    return [Text(f"held: {line.held}", style="red")] if line.held else []


def _no_route(line: overview.StudyLine) -> list[Text]:
    if not line.unrouted_reason:
        return []
    first, *others = line.unrouted_reason.split(" | ")
    return [Text(f"no route wanted it: {first}"), *(Text(f"or: {other}") for other in others)]


def _job_lines(job: overview.JobLine) -> list[Text]:
    """A job in one line, then why it failed or declined, then what a peer did not take."""
    head = Text.assemble(f"job {job.id}: {job.pipeline} ", state_text(job.state))
    kinds: dict[tuple[str, str], list[str]] = {}
    for item in job.deliveries:
        kinds.setdefault((item.peer, item.state), []).append(item.kind)
    for (peer, state), of in kinds.items():
        head.append(f"; {', '.join(of)} to {peer} ").append_text(state_text(state))
    lines = [head]
    if job.error:
        lines.append(Text(job.error))
    elif job.state == JobState.NOT_EVALUATED and job.statement:
        lines.append(Text(job.statement))
    lines += [Text(f"left out {item}") for item in job.left_out]
    told: set[tuple[str, str]] = set()
    for item in job.deliveries:
        waits = item.state == DeliveryState.PENDING and item.attempts
        noted = item.state == DeliveryState.SENT and item.answer not in _PLAIN_SUCCESS
        if (waits or noted or item.state == DeliveryState.FAILED) and item.answer:
            again = f"; again at {local_time(item.next_attempt_at)}" if waits else ""
            if (item.peer, item.answer) not in told:
                said = f"{item.peer} after {_tries(item.attempts)}: {item.answer}{again}"
                lines.append(Text(said))
            told.add((item.peer, item.answer))
    return lines


def _tries(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"


def _text(cell: str | Text) -> Text:
    """One line of text: what comes from outside may not break a row, or be taken for markup."""
    if isinstance(cell, Text):
        return cell
    return Text(" ".join(cell.split()))


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        shown = Text(shortened(cell.plain, width), style=cell.style)
        line.append_text(shown)
        if column < len(cells) - 1:
            line.append(" " * (width - cell_len(shown.plain)) + _GAP)
    return line
