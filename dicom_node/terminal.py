"""Tables of studies and coloured states, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from dicom_node.store import overview

_COLOURS = {
    "done": "green",
    "sent": "green",
    "committed": "green",
    "ok": "green",
    "warn": "yellow",
    "not_evaluated": "yellow",
    "failed": "red",
    "fail": "red",
}


def coloured(state: str) -> str:
    """Return a state as rich markup."""
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def studies_table(lines: Sequence[overview.StudyLine]) -> Table:
    """Render studies with their jobs and deliveries, one row a job."""
    table = Table("study", "images", "from", "state", "pipeline", "job", "delivered")
    for line in lines:
        shown = (
            f"…{line.study_uid[-18:]}",
            f"{line.instances} {line.modality}",
            ", ".join(line.senders),
            line.state,
        )
        if not line.jobs:
            table.add_row(*shown, "-", line.unrouted_reason or "", "")
        for job in line.jobs:
            delivered = ", ".join(
                f"{item.kind} → {item.peer} {coloured(item.state)}" for item in job.deliveries
            )
            table.add_row(*shown, job.pipeline, coloured(job.state), delivered)
            shown = ("", "", "", "")
    return table
