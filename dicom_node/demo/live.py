"""The demo's live table: what happens to each study, while it happens."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dicom_node.model.states import DeliveryState, JobState, StudyState
from dicom_node.store import overview
from dicom_node.store.database import Database
from dicom_node.terminal import state_text

_ENDED: Final = {JobState.DONE, JobState.NOT_EVALUATED, JobState.FAILED}


def watch(
    database: Database,
    sent: Set[str],
    names: Mapping[str, str],
    console: Console,
    minutes: float,
) -> list[overview.StudyLine]:
    """Show the studies until each has ended, or the time is up.

    Args:
        sent: Study Instance UIDs.
        names: What the demo calls them, by UID.
    """
    deadline = time.monotonic() + minutes * 60
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            with database.read() as session:
                lines = [s for s in overview.studies(session, 1000) if s.study_uid in sent]
            lines.reverse()
            live.update(_table(lines, names))
            ended = len(lines) == len(sent) and all(map(has_ended, lines))
            if ended or time.monotonic() > deadline:
                return lines
            time.sleep(0.25)


def has_ended(line: overview.StudyLine) -> bool:
    """Tell whether nothing more will happen to a study by itself."""
    if line.state != StudyState.SETTLED:
        return False
    if not line.jobs:
        return line.unrouted_reason is not None
    return all(
        job.state in _ENDED and all(item.state != DeliveryState.PENDING for item in job.deliveries)
        for job in line.jobs
    )


def _table(lines: Sequence[overview.StudyLine], names: Mapping[str, str]) -> Table:
    table = Table("study", "images", "state", "pipeline", "job", "to the PACS")
    for line in lines:
        name = names.get(line.study_uid, f"…{line.study_uid[-12:]}")
        shared = (name, f"{line.instances} {line.modality}", line.state)
        if not line.jobs:
            wanted = "" if line.unrouted_reason is None else "none wants it"
            table.add_row(*shared, wanted, "", "")
        for job in line.jobs:
            deliveries = ", ".join(f"{item.kind} {item.state}" for item in job.deliveries)
            table.add_row(*shared, job.pipeline, state_text(job.state), deliveries)
    return table
