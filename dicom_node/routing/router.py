"""Which pipelines run on a study, on which images, for whom, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydicom.uid import UID

from dicom_node.model import own_codes
from dicom_node.model.conditions import Conditions
from dicom_node.model.decisions import (
    Decision,
    Group,
    RouteDecision,
    Verdict,
    WantedJob,
)
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.own_output import is_own_output
from dicom_node.model.peers import Peer
from dicom_node.model.pipeline import InputKind, PipelineSpec
from dicom_node.model.routes import Route
from dicom_node.model.targets import Rejection
from dicom_node.routing.conditions import judge

_NO_PIXELS = frozenset({"SR", "PR", "KO", "DOC", "RTSTRUCT", "RTPLAN", "REG", "AU", "ECG", "PLAN"})
"""Modalities of objects without an image."""


def decide(
    routes: Sequence[Route],
    pipelines: Mapping[str, PipelineSpec],
    facts: Sequence[InstanceFacts],
    peers: Mapping[str, Peer],
) -> Decision:
    """Judge every route on every instance of a study.

    Args:
        pipelines: The `dicom.yaml` of each pipeline that a route may name.
        peers: By name, for the condition `sender`.
    """
    decided: list[RouteDecision] = []
    matched: list[tuple[Route, list[InstanceFacts]]] = []
    stopped_by = ""
    for route in routes:
        if stopped_by:
            decided.append(RouteDecision(route.name, False, (), skipped=stopped_by))
            continue
        groups = _groups(route.when, facts, peers)
        hits = [item for group in groups if group.matched for item in group.instances]
        decided.append(RouteDecision(route.name, bool(hits), groups))
        if hits:
            matched.append((route, hits))
            if route.stop:
                stopped_by = route.name
    jobs = tuple(_jobs(matched, pipelines, peers))
    reason = None if matched else _unrouted(decided, facts)
    return Decision(tuple(decided), jobs, reason)


def _groups(
    when: Conditions, facts: Iterable[InstanceFacts], peers: Mapping[str, Peer]
) -> tuple[Group, ...]:
    """Judge instances and put those that were judged alike together: a CT explains in a line."""
    members: dict[tuple[tuple[Verdict, ...], str], list[InstanceFacts]] = {}
    cache: dict[tuple[object, ...], tuple[Verdict, ...]] = {}
    tested = frozenset(when.attributes)
    for item in facts:
        excluded = _excluded(item)
        key = _likeness(item, tested)
        if key not in cache:
            cache[key] = judge(when, item, peers)
        members.setdefault((cache[key], excluded), []).append(item)
    return tuple(
        Group(
            tuple(items),
            verdicts,
            matched=not excluded and all(verdict.holds for verdict in verdicts),
            excluded=excluded,
        )
        for (verdicts, excluded), items in members.items()
    )


_CHANGING = frozenset(
    {
        "SOPInstanceUID",
        "InstanceNumber",
        "ImagePositionPatient",
        "SliceLocation",
        "ContentTime",
        "AcquisitionTime",
        "InstanceCreationTime",
        "WindowCenter",
        "WindowWidth",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
    }
)


def _likeness(item: InstanceFacts, tested: frozenset[str]) -> tuple[object, ...]:
    """Return what two instances share when no condition can tell them apart.

    All elements count but those that change from slice to slice and that no condition tests;
    an instance that differs is only judged once more.
    """
    return (
        item.sop_class_uid,
        item.sender,
        tuple(
            (keyword, str(value))
            for keyword, value in item.attributes.items()
            if keyword in tested or keyword not in _CHANGING
        ),
    )


def _excluded(item: InstanceFacts) -> str:
    if is_own_output(item.attributes):
        return "made by a dicom-node: our own output is never analysed"
    modality = str(item.attributes.get("Modality", ""))
    if modality in _NO_PIXELS or ("Rows" not in item.attributes):
        return f"no image ({UID(item.sop_class_uid).name})"
    return ""


def _jobs(
    matched: Sequence[tuple[Route, list[InstanceFacts]]],
    pipelines: Mapping[str, PipelineSpec],
    peers: Mapping[str, Peer],
) -> Iterable[WantedJob]:
    wanted: dict[str, list[tuple[Route, list[InstanceFacts]]]] = {}
    for route, hits in matched:
        for name in route.run:
            wanted.setdefault(name, []).append((route, hits))
    for name, asked in wanted.items():
        candidates = list(
            {item.sop_instance_uid: item for _, hits in asked for item in hits}.values()
        )
        yield _job(
            name,
            pipelines[name],
            candidates,
            routes=tuple(dict.fromkeys(route.name for route, _ in asked)),
            send_to=tuple(dict.fromkeys(peer for route, _ in asked for peer in route.send_to)),
            peers=peers,
        )


def _job(
    name: str,
    spec: PipelineSpec,
    candidates: Sequence[InstanceFacts],
    *,
    routes: tuple[str, ...],
    send_to: tuple[str, ...],
    peers: Mapping[str, Peer],
) -> WantedJob:
    groups = _groups(spec.input.when, candidates, peers)
    taken = [item for group in groups if group.matched for item in group.instances]
    if spec.input.kind is InputKind.VOLUME:
        taken = _large_enough(taken, spec.input.min_instances)
    named = ", ".join(f"“{route}”" for route in routes)
    reason = f"route{'s' if len(routes) > 1 else ''} {named}"
    if taken:
        return WantedJob(name, tuple(taken), send_to, routes, reason, groups)
    why = _selector_reason(groups, spec)
    return WantedJob(
        name, tuple(candidates), send_to, routes, f"{reason}; {why.text}", groups, rejection=why
    )


def _large_enough(taken: Sequence[InstanceFacts], least: int) -> list[InstanceFacts]:
    sizes: dict[str, int] = {}
    for item in taken:
        frames = item.attributes.get("NumberOfFrames", 1)
        sizes[item.series_instance_uid] = sizes.get(item.series_instance_uid, 0) + (
            frames if isinstance(frames, int) else 1
        )
    return [item for item in taken if sizes[item.series_instance_uid] >= least]


def _selector_reason(groups: Sequence[Group], spec: PipelineSpec) -> Rejection:
    failed = [verdict for group in groups for verdict in group.verdicts if not verdict.holds]
    if not failed:
        least = spec.input.min_instances
        return Rejection(
            own_codes.TOO_FEW_SLICES, f"no series has the {least} images that are needed"
        )
    text = "; ".join(dict.fromkeys(_told(verdict) for verdict in failed))
    conditions = {verdict.condition for verdict in failed}
    code = own_codes.NO_SUITABLE_IMAGE
    for condition, known in (
        ("view", own_codes.WRONG_VIEW),
        ("body_part", own_codes.WRONG_BODY_PART),
        ("contrast", own_codes.CONTRAST_GIVEN),
        ("slice_thickness_mm", own_codes.THICK_SLICES),
    ):
        if condition in conditions:
            code = known
            break
    return Rejection(code, f"no image is suitable: {text}")


def _unrouted(decided: Sequence[RouteDecision], facts: Sequence[InstanceFacts]) -> str:
    """Say in a line why no route wants a study."""
    if not decided:
        return "node.yaml has no routes"
    excluded = {group.excluded for route in decided for group in route.groups}
    if "" not in excluded:
        return "; ".join(sorted(excluded)) or f"{len(facts)} instances"
    lines = []
    for route in decided:
        failed = [v for g in route.groups if not g.excluded for v in g.verdicts if not v.holds]
        told = "; ".join(dict.fromkeys(_told(verdict) for verdict in failed[:3]))
        lines.append(f"“{route.route}”: {told}")
    return " | ".join(lines)


def _told(verdict: Verdict) -> str:
    seen = verdict.seen or "not given"
    return f"{verdict.condition} is {seen}, not {verdict.wanted}"
