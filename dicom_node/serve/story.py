"""A study's audit events in plain words, oldest first: what happened, by whom, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from dicom_node.routing.reasons import SEPARATOR
from dicom_node.store.tables import AuditEvent


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the story.

    Attributes:
        kind: Of the audit event.
        tone: "good", "bad", "warn", "person" (somebody decided) or "plain".
        text: What happened, in one sentence.
        more: The reason or the answer; "" when there is none.
        times: How many events alike in a row it stands for.
    """

    at: datetime
    kind: str
    tone: str
    text: str
    more: str = ""
    job_id: int | None = None
    peer: str | None = None
    times: int = 1


_Words = Callable[[Mapping[str, Any]], tuple[str, str]]


def story(events: Iterable[AuditEvent]) -> list[Step]:
    """Tell the events; those of one kind that say the same in a row become one step."""
    steps: list[Step] = []
    received: dict[str | None, int] = {}
    for event in events:
        step = step_of(event)
        if steps and event.kind == "instances_received" == steps[-1].kind:
            # a study comes in many batches: one line says how many images they were
            received[event.peer] = received.get(event.peer, 0) + int(event.data.get("number", 0))
            steps[-1] = replace(steps[-1], at=event.at, text=_received(received))
            continue
        if event.kind == "instances_received":
            received = {event.peer: int(event.data.get("number", 0))}
        same = steps and (steps[-1].kind, steps[-1].text, steps[-1].more, steps[-1].peer) == (
            step.kind,
            step.text,
            step.more,
            step.peer,
        )
        if same:
            steps[-1] = replace(steps[-1], at=event.at, times=steps[-1].times + 1)
        else:
            steps.append(step)
    return steps


def step_of(event: AuditEvent) -> Step:
    """Tell one event; a kind that is not known is told by its name and its details."""
    data = {**event.data, "peer": event.peer or "", "job_id": event.job_id}
    if event.kind in _KINDS:
        tone, words = _KINDS[event.kind]
        text, more = words(data)
    else:
        tone, text = "plain", event.kind.replace("_", " ")
        more = "; ".join(f"{key} {value}" for key, value in event.data.items() if value)
    if event.kind == "job_finished" and event.data.get("state") == "not_evaluated":
        tone = "warn"
    return Step(event.at, event.kind, tone, text, more, event.job_id, event.peer)


def _received(by_sender: Mapping[str | None, int]) -> str:
    parts = [f"{_images(number)} from {who or 'a sender'}" for who, number in by_sender.items()]
    return f"{' and '.join(parts)} received and safe on disk"


def _images(number: Any) -> str:
    return f"{number} image{'' if number == 1 else 's'}"


def _names(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")


def _error(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    if isinstance(error, Mapping):
        told = [str(error.get(key)) for key in ("what", "why", "fix", "error") if error.get(key)]
        return ": ".join(told[:2]) + (f". {told[2]}" if len(told) > 2 else "")
    return str(error or data.get("why") or data.get("reason") or "")


def _by(what: str) -> _Words:
    return lambda data: (f"{what} by {data.get('by') or 'somebody'}", str(data.get("reason") or ""))


def _settled(data: Mapping[str, Any]) -> tuple[str, str]:
    more = "; ".join(str(data[key]) for key in ("asked", "told") if data.get(key))
    quiet = float(data.get("quiet_seconds", 0))
    return f"Complete: no image came for {quiet:g} second{'' if quiet == 1 else 's'}", more


def _finished(data: Mapping[str, Any]) -> tuple[str, str]:
    name = f"{data.get('pipeline')} {data.get('version', '')}".strip()
    number = len(data.get("reports") or [])
    made = f"{number} object{'' if number == 1 else 's'} made"
    if data.get("state") == "not_evaluated":
        return f"{name} did not evaluate it", f"{made}, which say why"
    return f"{name} is done", made


def _job(what: str) -> _Words:
    return lambda data: (f"{data.get('pipeline')}: {what}", _error(data))


_KINDS: Final[Mapping[str, tuple[str, _Words]]] = {
    "study_begun": ("plain", lambda d: (f"{d['peer'] or 'A sender'} began to send it", "")),
    "instances_received": ("good", lambda d: (_received({d["peer"]: d.get("number", 0)}), "")),
    "instance_refused": ("bad", lambda d: (f"An image of {d['peer']} was refused", _error(d))),
    "instance_conflict": (
        "warn",
        lambda d: (
            f"{d['peer'] or 'A sender'} sent other content under a known SOP Instance UID",
            "the first content is kept, the other set aside",
        ),
    ),
    "instance_replaced": (
        "warn",
        lambda d: (
            f"{d['peer'] or 'A sender'} sent other content for an image that was purged",
            "the first content is gone, so this is the image now",
        ),
    ),
    "patient_changed": (
        "warn",
        lambda d: ("An image names another patient than those before", _names(d.get("attributes"))),
    ),
    "study_waits_for_images": (
        "plain",
        lambda d: (f"{d['peer']} says that more images come", str(d.get("asked") or "")),
    ),
    "study_dated_ahead": (
        "warn",
        lambda d: (
            "The clock was put back: its last image was dated in the future",
            "it counts as come now, and settles after the quiet time",
        ),
    ),
    "study_settled": ("good", _settled),
    "study_reopened": ("plain", lambda d: (f"A late image of {d['peer']} reopened it", "")),
    "study_routed": ("good", lambda d: (f"Routed to {_names(d.get('pipelines'))}", "")),
    "study_unrouted": (
        "warn",
        lambda d: ("No route wanted it", "; ".join(str(d.get("reason") or "").split(SEPARATOR))),
    ),
    "study_routing_failed": ("bad", lambda d: ("Routing failed", _error(d))),
    "study_to_route_again": (
        "person",
        lambda d: _by("To be routed again")(d) if d.get("by") else ("To be routed again", ""),
    ),
    "study_held": ("warn", lambda d: ("Held: it waits for a person", str(d.get("text") or ""))),
    "study_released": ("person", _by("Released")),
    "study_discarded": ("person", _by("Discarded")),
    "study_pulled": ("good", lambda d: (f"Retrieved from {d['peer']}", str(d.get("answer") or ""))),
    "study_not_pulled": ("bad", lambda d: (f"Not retrieved from {d['peer']}", _error(d))),
    "job_queued": (
        "plain",
        lambda d: (
            f"{d.get('pipeline')} queued on {_images(d.get('images', 0))}",
            str(d.get("reason") or ""),
        ),
    ),
    "job_images_changed": (
        "plain",
        lambda d: (f"{d.get('pipeline')} now takes {_images(d.get('images', 0))}", ""),
    ),
    "job_peers_added": (
        "plain",
        lambda d: (f"Its reports also go to {_names(d.get('peers'))}", ""),
    ),
    "job_finished": ("good", _finished),
    "job_attempt_failed": ("warn", _job("an attempt failed, it is tried again")),
    "job_failed": ("bad", _job("failed")),
    "job_requeued": ("warn", _job("lost its worker, it is tried again")),
    "job_retried": ("person", lambda d: _by(f"Job {d['job_id']} queued again")(d)),
    "job_superseded": (
        "plain",
        lambda d: (f"Job {d.get('by')} took the place of job {d['job_id']}", ""),
    ),
    "job_failure_reported": ("plain", _job("a report says that it failed")),
    "job_failure_not_reported": ("bad", _job("no report could say that it failed")),
    "job_stopped": (
        "plain",
        lambda d: (f"Job {d['job_id']} was stopped: job {d.get('by')} has taken its place", ""),
    ),
    "report_let_out": (
        "plain",
        lambda d: (f"{d.get('deliveries')} withheld objects may now be sent", ""),
    ),
    "report_sent": (
        "good",
        lambda d: (f"{d['peer']} stored an object", str(d.get("answer") or "")),
    ),
    "report_committed": (
        "good",
        lambda d: (f"{d['peer']} committed to keep an object", str(d.get("answer") or "")),
    ),
    "report_delayed": (
        "warn",
        lambda d: (f"{d['peer']} did not take an object yet", str(d.get("answer") or "")),
    ),
    "report_failed": (
        "bad",
        lambda d: (f"{d['peer']} did not take an object", str(d.get("answer") or "")),
    ),
    "report_retried": (
        "person",
        lambda d: _by(f"An object to {d['peer']} queued again")(d),
    ),
    "resend_asked": ("person", lambda d: _by("Sent again, as asked")(d)),
    "patients_shown": ("plain", lambda d: (f"{d.get('by')} saw whose study it is", "")),
}
