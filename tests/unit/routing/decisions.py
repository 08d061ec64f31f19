"""Images, routes and decisions in few words, for the tests of routing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.uid import CTImageStorage

from dicom_node.model.decisions import Decision
from dicom_node.model.instances import AttributeValue, InstanceFacts
from dicom_node.model.peers import Peer
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.model.routes import Route
from dicom_node.routing import decide
from tests.factories import facts
from tests.unit.routing.pipeline_specs import pipeline

_uids = itertools.count(1)
PEERS = {"xray": Peer(ae_title="XRAY", host="127.0.0.1", port=104)}


def image(sop: str = "", **attributes: AttributeValue | str) -> InstanceFacts:
    """Facts of an image (it has rows)."""
    return facts(sop=sop or f"1.2.3.1.{next(_uids)}", **{"Rows": 100, **attributes})  # type: ignore[arg-type]


def ct(number: int, series: str = "1.2.3.9", **attributes: AttributeValue) -> InstanceFacts:
    """Facts of a CT slice."""
    given: dict[str, Any] = {"Modality": "CT", "InstanceNumber": number, **attributes}
    return image(f"{series}.{number}", series=series, sop_class=str(CTImageStorage), **given)


def route(name: str, run: str | list[str] = "knee", **given: Any) -> Route:
    """Make a route: `send_to` and `stop` as given, everything else is a condition."""
    send_to, stop = given.pop("send_to", "pacs"), given.pop("stop", False)
    return Route.model_validate(
        {"name": name, "when": given, "run": run, "send_to": send_to, "stop": stop}
    )


ANY: Mapping[str, PipelineSpec] = {name: pipeline() for name in ("knee", "hip", "other")}


def decided(
    routes: Sequence[Route],
    items: Sequence[InstanceFacts],
    pipelines: Mapping[str, PipelineSpec] = ANY,
) -> Decision:
    return decide(routes, pipelines, items, PEERS)


def uids(items: Sequence[InstanceFacts]) -> list[str]:
    return [item.sop_instance_uid for item in items]
