"""A decision in words, for the person who asks why a study went where it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pydicom.uid import UID

from dicom_node.model.decisions import Decision, Group, Verdict


def as_text(decision: Decision) -> str:
    """Return the decision as plain text: every rule, every condition, the value and its place."""
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
                "selection": list(map(_group_json, job.selection)),
            }
            for job in decision.jobs
        ],
        "unrouted_reason": decision.unrouted_reason,
    }


def _lines(decision: Decision) -> Iterator[str]:
    for route in decision.routes:
        if route.skipped:
            yield f"route “{route.route}”: not looked at, “{route.skipped}” says stop"
            continue
        yield f"route “{route.route}”: {'MATCHES' if route.matched else 'does not match'}"
        yield from _group_lines(route.groups)
    for job in decision.jobs:
        to = ", ".join(job.peers)
        yield ""
        if job.rejection is not None:
            yield f"runs {job.pipeline}: NOT EVALUATED, {job.rejection.text}; reports to {to}"
        else:
            yield f"runs {job.pipeline} on {_images(len(job.instances))}; reports to {to}"
        yield from _group_lines(job.selection)
    if decision.unrouted_reason is not None:
        yield ""
        yield "no pipeline runs and nothing is sent: " + decision.unrouted_reason


def _group_lines(groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        first = group.instances[0]
        modality = first.attributes.get("Modality", "?")
        name = f"{_images(len(group.instances))}, {modality}, {UID(first.sop_class_uid).name}"
        yield f"  {name}: {'taken' if group.matched else 'not taken'}"
        if group.excluded:
            yield f"    [no ] {group.excluded}"
            continue
        for verdict in group.verdicts:
            yield f"    {_verdict_line(verdict)}"


def _verdict_line(verdict: Verdict) -> str:
    seen = f"“{verdict.seen}”" if verdict.seen else "nothing"
    where = f" in {verdict.where}" if verdict.where else ""
    note = f" ({verdict.note})" if verdict.note else ""
    mark = "yes" if verdict.holds else "no "
    return f"[{mark}] {verdict.condition}: wanted {verdict.wanted}; saw {seen}{where}{note}"


def _images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "images": [item.sop_instance_uid for item in group.instances],
        "matched": group.matched,
        "excluded": group.excluded or None,
        "conditions": [asdict(verdict) for verdict in group.verdicts],
    }
