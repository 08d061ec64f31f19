"""What routing decided about a study, and why: each condition with the value it saw."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.model.instances import InstanceFacts
from dicom_node.model.priority import Priority
from dicom_node.model.targets import Rejection


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition on one instance.

    Attributes:
        condition: Its key in `when` ("body_part").
        wanted: As configured.
        seen: The value, as a person reads it; "" when there was none.
        where: The attribute that it was seen in, with its tag.
        holds: The outcome.
        note: What else the reader should know (two attributes contradict each other).
    """

    condition: str
    wanted: str
    seen: str
    where: str
    holds: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Instances that a rule judged alike.

    Attributes:
        matched: Every condition holds.
        excluded: Why they are never routed, whatever the conditions; "" otherwise.
    """

    instances: tuple[InstanceFacts, ...]
    verdicts: tuple[Verdict, ...]
    matched: bool
    excluded: str = ""


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """One route on one study; `skipped` names the route that stopped before it."""

    route: str
    matched: bool
    groups: tuple[Group, ...]
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class WantedJob:
    """A pipeline that is to run.

    Attributes:
        instances: Those it takes; when rejected, those that the routes matched.
        selection: How the pipeline's own selector judged the matched instances.
        rejection: Set when the selector takes none of them.
        priority: The highest that its images or routes state.
    """

    pipeline: str
    instances: tuple[InstanceFacts, ...]
    peers: tuple[str, ...]
    routes: tuple[str, ...]
    reason: str
    selection: tuple[Group, ...] = ()
    rejection: Rejection | None = None
    priority: Priority = Priority.ROUTINE


@dataclass(frozen=True, slots=True)
class Decision:
    """All of it; `unrouted_reason` is None when at least one route matched."""

    routes: tuple[RouteDecision, ...]
    jobs: tuple[WantedJob, ...]
    unrouted_reason: str | None
