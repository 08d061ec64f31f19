"""A decision in words, for the person who asks why a study went where it went."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from pydicom.uid import UID

from dicom_node.model.decisions import Decision, Group, Verdict, WantedJob
from dicom_node.routing.reasons import SEPARATOR
from dicom_node.routing.sources import shortened

_WIDEST: Final = 32
"""Columns; a longer value pushes the rest of its line to the right."""
_MOST_GROUPS: Final = 6
"""A rule that tells each slice from the next would fill pages; JSON has them all."""


def as_text(decision: Decision) -> str:
    """Return the decision as plain text: what happens, then each rule and what it saw.

    One line a condition: whether it holds, its key in `node.yaml`, the value seen, the value
    wanted, the attribute that it was seen in.
    """
    return "\n".join(_lines(decision))


def as_json(decision: Decision) -> dict[str, Any]:
    """Return the decision as plain JSON; images are named by SOP Instance UID only."""
    return {
        "routes": [
            {
                "route": route.route,
                "matched": route.matched,
                "skipped_by": route.skipped or None,
                "groups": list(map(_group_json, route.groups)),
            }
            for route in decision.routes
        ],
        "jobs": [
            {
                "pipeline": job.pipeline,
                "routes": job.routes,
                "send_to": job.peers,
                "images": [item.sop_instance_uid for item in job.instances],
                "reason": job.reason,
                "not_evaluated": job.rejection.text if job.rejection else None,
                "not_evaluated_code": job.rejection.reason.value if job.rejection else None,
                "selection": list(map(_group_json, job.selection)),
            }
            for job in decision.jobs
        ],
        "unrouted_reason": decision.unrouted_reason,
    }


def _lines(decision: Decision) -> Iterator[str]:
    if decision.unrouted_reason is not None:
        yield "no pipeline runs and nothing is sent"
        yield from (f"  {told}" for told in decision.unrouted_reason.split(SEPARATOR))
    for job in decision.jobs:
        yield from _job_lines(job)
    for route in decision.routes:
        yield ""
        if route.skipped:
            yield f"route “{route.route}”: not looked at, “{route.skipped}” says stop"
            continue
        yield f"route “{route.route}”: {'matches' if route.matched else 'does not match'}"
        yield from _group_lines(route.groups)
    for job in decision.jobs:
        yield ""
        yield f"pipeline {job.pipeline}: what it takes of these images"
        yield from _group_lines(job.selection)


def _job_lines(job: WantedJob) -> Iterator[str]:
    to = ", ".join(job.peers)
    if job.rejection is None:
        yield f"{job.pipeline} runs on {_images(len(job.instances))}; reports to {to}"
    else:
        yield f"{job.pipeline} does not evaluate the study; a report that says so goes to {to}"
        yield f"  {job.rejection.text}"


def _group_lines(groups: Sequence[Group]) -> Iterator[str]:
    if not groups:
        yield "  no images"
    ordered = sorted(groups, key=lambda group: not group.matched)
    for group in ordered[:_MOST_GROUPS]:
        if group.excluded:
            yield f"  {_count(len(group.instances), 'object')} left out: {group.excluded}"
            continue
        outcome = "taken" if group.matched else "not taken"
        yield f"  {_images(len(group.instances))} ({_kind(group)}): {outcome}"
        yield from _table(group.verdicts)
    if left := ordered[_MOST_GROUPS:]:
        number = sum(len(group.instances) for group in left)
        taken = sum(len(group.instances) for group in left if group.matched)
        yield f"  {_images(number)} more, judged in {len(left)} other ways: {taken} taken"


def _kind(group: Group) -> str:
    modalities = {str(item.attributes.get("Modality", "no modality")) for item in group.instances}
    names = {UID(item.sop_class_uid).name or "no SOP class" for item in group.instances}
    return "; ".join(shortened(", ".join(sorted(texts))) for texts in (modalities, names))


def _table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    rows = [(v.condition, v.seen or "not given", f"wanted {v.wanted}") for v in verdicts]
    widths = [min(max(map(_width, column)), _WIDEST) for column in zip(*rows, strict=True)]
    for verdict, row in zip(verdicts, rows, strict=True):
        mark = "yes" if verdict.holds else "no "
        cells = "  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True))
        yield f"    {mark}  {cells}  {verdict.where}".rstrip()
        if verdict.note:
            yield f"         {verdict.note}"


def _width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _images(number: int) -> str:
    return _count(number, "image")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "images": [item.sop_instance_uid for item in group.instances],
        "matched": group.matched,
        "excluded": group.excluded or None,
        "conditions": [asdict(verdict) for verdict in group.verdicts],
    }
