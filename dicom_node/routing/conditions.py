"""A route's or a selector's conditions on one instance: each with the value it saw, and where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydicom.uid import UID

from dicom_node.model.conditions import Conditions, Range, Test
from dicom_node.model.decisions import Verdict
from dicom_node.model.findings import Side
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.peers import Peer
from dicom_node.routing.anatomy import anatomy_of
from dicom_node.routing.laterality import laterality_of
from dicom_node.routing.sources import may_be_shown, where
from dicom_node.routing.text import folded, squashed
from dicom_node.routing.views import UNKNOWN, meets, view_of
from dicom_node.routing.vocabulary import vocabulary


def judge(
    conditions: Conditions, facts: InstanceFacts, peers: Mapping[str, Peer]
) -> tuple[Verdict, ...]:
    """Judge every condition that is given; all must hold for a match."""
    return tuple(_judge(conditions, facts, peers))


def _judge(
    wanted: Conditions, facts: InstanceFacts, peers: Mapping[str, Peer]
) -> Iterator[Verdict]:
    attributes = facts.attributes
    if wanted.modality is not None:
        seen = str(attributes.get("Modality", ""))
        holds = seen.upper() in [m.upper() for m in wanted.modality]
        yield _verdict("modality", wanted.modality, seen, where("Modality"), holds)
    if wanted.sop_class is not None:
        seen = facts.sop_class_uid
        name = UID(seen).name
        holds = any(item == seen or squashed(item) == squashed(name) for item in wanted.sop_class)
        yield _verdict("sop_class", wanted.sop_class, name, where("SOPClassUID"), holds)
    if wanted.sender is not None:
        yield _sender(wanted.sender, facts.sender, peers)
    if wanted.body_part is not None:
        yield _body_part(wanted.body_part, attributes)
    if wanted.view is not None:
        view = view_of(attributes)
        seen = view.seen or ("" if view.name == UNKNOWN else view.name)
        if seen and view.name not in (UNKNOWN, seen):
            seen = f"{seen} = {view.name}"
        holds = any(meets(view.name, name) for name in wanted.view)
        yield _verdict("view", wanted.view, seen, view.where, holds, view.why)
    if wanted.laterality is not None:
        yield _laterality(wanted.laterality, attributes)
    if wanted.contrast is not None:
        yield _contrast(wanted.contrast, attributes)
    if wanted.slice_thickness_mm is not None:
        yield _range("slice_thickness_mm", "SliceThickness", wanted.slice_thickness_mm, attributes)
    if wanted.image_type is not None or wanted.not_image_type is not None:
        yield from _image_type(wanted, attributes)
    for keyword, test in wanted.attributes.items():
        yield _test(keyword, test, attributes)


def _sender(wanted: Sequence[str], sender: str, peers: Mapping[str, Peer]) -> Verdict:
    names = [name for name, peer in peers.items() if peer.ae_title == sender]
    holds = sender in wanted or any(name in wanted for name in names)
    seen = f"{sender} (peer {', '.join(names)})" if names else sender
    return _verdict("sender", wanted, seen, "calling AE title", holds)


def _body_part(wanted: Sequence[str], attributes: Mapping[str, Any]) -> Verdict:
    words = vocabulary()
    regions = {region for text in wanted for region in words.of_body_part(text).regions}
    found = anatomy_of(attributes)
    seen = found.seen
    if found.named and {squashed(seen)} != set(found.named):
        seen = f"{seen} = {', '.join(sorted(found.named))}"
    holds = bool(found.regions & regions)
    return _verdict("body_part", wanted, seen, found.where, holds, found.why)


def _laterality(wanted: Sequence[Side], attributes: Mapping[str, Any]) -> Verdict:
    found = laterality_of(attributes)
    sides = found.sides or {Side.UNKNOWN}
    holds = not sides.isdisjoint(wanted)
    texts = [str(side) for side in wanted]
    return _verdict("laterality", texts, found.seen, found.where, holds, found.why)


_CONTRAST = (
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusStartTime",
    "ContrastBolusVolume",
)
_NO_CONTRAST = frozenset({"", "none", "no", "n", "0", "0 0", "without", "ohne", "nein", "nativ"})


def _contrast(wanted: bool, attributes: Mapping[str, Any]) -> Verdict:
    for keyword in _CONTRAST:
        value = attributes.get(keyword)
        if value not in (None, "", []) and folded(str(value)) not in _NO_CONTRAST:
            return _verdict("contrast", [wanted], "given", where(keyword), wanted)
    return _verdict("contrast", [wanted], "none given", where(_CONTRAST[0]), not wanted)


def _image_type(wanted: Conditions, attributes: Mapping[str, Any]) -> Iterator[Verdict]:
    value = attributes.get("ImageType") or []
    have = [str(v).upper() for v in (value if isinstance(value, list) else [value])]
    seen = "\\".join(have)
    if wanted.image_type is not None:
        holds = all(item.upper() in have for item in wanted.image_type)
        yield _verdict("image_type", wanted.image_type, seen, where("ImageType"), holds)
    if wanted.not_image_type is not None:
        holds = not any(item.upper() in have for item in wanted.not_image_type)
        yield _verdict("not_image_type", wanted.not_image_type, seen, where("ImageType"), holds)


def _range(condition: str, keyword: str, wanted: Range, attributes: Mapping[str, Any]) -> Verdict:
    value = attributes.get(keyword)
    number = _number(value)
    holds = number is not None and (
        (wanted.min is None or number >= wanted.min)
        and (wanted.max is None or number <= wanted.max)
    )
    text = " ".join(
        f"{name} {end:g}" for name, end in (("min", wanted.min), ("max", wanted.max)) if end
    )
    return _verdict(condition, [text], "" if value is None else str(value), where(keyword), holds)


def _test(keyword: str, test: Test, attributes: Mapping[str, Any]) -> Verdict:
    value = attributes.get(keyword)
    condition = f"attributes.{keyword}"
    shown = _shown(keyword, value)
    if test.present is not None:
        holds = (value not in (None, "", [])) == test.present
        return _verdict(condition, [f"present: {test.present}"], shown, where(keyword), holds)
    if test.range is not None:
        return _range(condition, keyword, test.range, attributes)
    texts = _texts(value)
    checks: dict[str, tuple[Sequence[str], Callable[[str, str], bool]]] = {
        "equals": (test.equals or (), lambda have, want: have.casefold() == want.casefold()),
        "contains": (test.contains or (), lambda have, want: want.casefold() in have.casefold()),
        "matches": (
            [test.matches] if test.matches else (),
            lambda have, want: re.search(want, have, re.IGNORECASE) is not None,
        ),
    }
    for name, (wanted, holds_for) in checks.items():
        if wanted:
            holds = any(holds_for(have, want) for have in texts for want in wanted)
            return _verdict(
                condition, [f"{name} {w}" for w in wanted], shown, where(keyword), holds
            )
    return _verdict(condition, [], shown, where(keyword), False)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, Mapping):
        return [str(item) for item in value.values()]
    if isinstance(value, float) and value.is_integer():
        return [str(value), str(int(value))]
    return [str(value)]


def _shown(keyword: str, value: Any) -> str:
    if value in (None, "", []):
        return ""
    if not may_be_shown(keyword):
        return "(not shown: patient data)"
    return "\\".join(_texts(value))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _verdict(
    condition: str, wanted: Sequence[Any], seen: str, where: str, holds: bool, note: str = ""
) -> Verdict:
    text = " or ".join(
        str(item).lower() if isinstance(item, bool) else str(item) for item in wanted
    )
    return Verdict(condition, text, seen, where, holds, note)
