"""Which pipelines run on a study, on which images, for whom, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dicom_node.model.conditions import Conditions
from dicom_node.model.decisions import (
    Decision,
    Group,
    RouteDecision,
    Verdict,
    WantedJob,
)
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.peers import AnyPeer
from dicom_node.model.pipeline import InputKind, PipelineSpec
from dicom_node.model.priority import priority_of
from dicom_node.model.routes import Route
from dicom_node.routing.conditions import judge, reads
from dicom_node.routing.reading import Readings
from dicom_node.routing.reasons import selector_rejection, series_sizes, unrouted_reason


def decide(
    routes: Sequence[Route],
    pipelines: Mapping[str, PipelineSpec],
    facts: Sequence[InstanceFacts],
    peers: Mapping[str, AnyPeer],
) -> Decision:
    """Judge every route on every instance of a study.

    Args:
        pipelines: The `dicom.yaml` of each pipeline that a route may name.
        peers: By name, for the condition `sender`.

    The order of `facts` does not matter: jobs get their images by series and number.
    """
    facts = sorted(facts, key=_place)
    readings = Readings()
    decided: list[RouteDecision] = []
    matched: list[tuple[Route, list[InstanceFacts]]] = []
    stopped_by = ""
    for route in routes:
        if stopped_by:
            decided.append(RouteDecision(route.name, False, (), skipped=stopped_by))
            continue
        groups = _groups(route.when, facts, peers, readings)
        hits = _taken(groups)
        decided.append(RouteDecision(route.name, bool(hits), groups))
        if hits:
            matched.append((route, hits))
            if route.stop:
                stopped_by = route.name
    jobs = tuple(_jobs(matched, pipelines, peers, readings))
    reason = None if matched else unrouted_reason(decided)
    return Decision(tuple(decided), jobs, reason)


def _place(item: InstanceFacts) -> tuple[str, int, str]:
    number = item.attributes.get("InstanceNumber")
    at = number if isinstance(number, int) else 0
    return item.series_instance_uid, at, item.sop_instance_uid


def _groups(
    when: Conditions,
    facts: Iterable[InstanceFacts],
    peers: Mapping[str, AnyPeer],
    readings: Readings,
) -> tuple[Group, ...]:
    """Judge instances and put those that were judged alike together: a CT explains in a line."""
    alike: dict[tuple[object, ...], list[InstanceFacts]] = {}
    keywords = sorted(reads(when))
    for item in facts:
        reading = readings.of(item)
        key = (reading, reading.excluded or _likeness(item, keywords))
        alike.setdefault(key, []).append(item)
    members: dict[tuple[tuple[Verdict, ...], str], list[InstanceFacts]] = {}
    for items in alike.values():
        reading = readings.of(items[0])
        verdicts = () if reading.excluded else judge(when, items[0], peers, reading)
        members.setdefault((verdicts, reading.excluded), []).extend(items)
    return tuple(
        Group(
            tuple(sorted(items, key=_place)),
            verdicts,
            matched=not excluded and all(verdict.holds for verdict in verdicts),
            excluded=excluded,
        )
        for (verdicts, excluded), items in members.items()
    )


def _taken(groups: Sequence[Group]) -> list[InstanceFacts]:
    found = [item for group in groups if group.matched for item in group.instances]
    return sorted(found, key=_place)


def _likeness(item: InstanceFacts, keywords: Sequence[str]) -> tuple[object, ...]:
    """Return what two instances share when the conditions cannot tell them apart."""
    have = item.attributes
    values = (repr(have[keyword]) if keyword in have else None for keyword in keywords)
    return (item.sender, *values)


def _jobs(
    matched: Sequence[tuple[Route, list[InstanceFacts]]],
    pipelines: Mapping[str, PipelineSpec],
    peers: Mapping[str, AnyPeer],
    readings: Readings,
) -> Iterable[WantedJob]:
    wanted: dict[str, list[tuple[Route, list[InstanceFacts]]]] = {}
    for route, hits in matched:
        for name in route.run:
            wanted.setdefault(name, []).append((route, hits))
    for name, asked in wanted.items():
        candidates = list(
            {item.sop_instance_uid: item for _, hits in asked for item in hits}.values()
        )
        found = _job(
            name,
            pipelines[name],
            candidates,
            routes=tuple(dict.fromkeys(route.name for route, _ in asked)),
            send_to=tuple(dict.fromkeys(peer for route, _ in asked for peer in route.send_to)),
            groups=_groups(pipelines[name].input.when, candidates, peers, readings),
        )
        urgency = priority_of(candidates, (route.priority for route, _ in asked))
        yield replace(found, priority=urgency)


def _job(
    name: str,
    spec: PipelineSpec,
    candidates: Sequence[InstanceFacts],
    *,
    routes: tuple[str, ...],
    send_to: tuple[str, ...],
    groups: tuple[Group, ...],
) -> WantedJob:
    taken = _taken(groups)
    if spec.input.kind is InputKind.VOLUME:
        taken = _large_enough(taken, spec.input.min_instances)
    named = ", ".join(f"“{route}”" for route in routes)
    reason = f"route{'s' if len(routes) > 1 else ''} {named}"
    if taken:
        return WantedJob(name, tuple(taken), send_to, routes, reason, groups)
    why = selector_rejection(groups, spec.input)
    return WantedJob(
        name, tuple(candidates), send_to, routes, f"{reason}; {why.text}", groups, rejection=why
    )


def _large_enough(taken: Sequence[InstanceFacts], least: int) -> list[InstanceFacts]:
    sizes = series_sizes(taken)
    return [item for item in taken if sizes[item.series_instance_uid] >= least]
