"""A route: which pipelines run on which images, and where their reports go."""

from __future__ import annotations

from pydantic import Field

from dicom_node.model.conditions import Conditions, OneOrMore, Strict
from dicom_node.model.priority import PriorityName


class Route(Strict):
    """An ordered rule of `node.yaml`.

    Every matching route applies, unless a matching one before it says `stop: true`.

    Attributes:
        when: Conditions that one and the same instance must meet.
        run: Pipeline names.
        send_to: Peer names that get the reports.
        priority: Its jobs are so urgent, whatever the images state.
        stop: When it matches, later routes are not looked at.
    """

    name: str = Field(min_length=1)
    when: Conditions = Conditions()
    run: OneOrMore
    send_to: OneOrMore
    priority: PriorityName | None = None
    stop: bool = False
