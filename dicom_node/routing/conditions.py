"""A route's or a selector's conditions on one instance: each with the value it saw, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydicom.uid import UID

from dicom_node.model.conditions import Conditions
from dicom_node.model.contrast import CONTRAST, contrast_given
from dicom_node.model.decisions import Verdict
from dicom_node.model.findings import Side
from dicom_node.model.instances import InstanceFacts
from dicom_node.model.peers import AnyPeer, sender_of
from dicom_node.model.text import squashed, texts_of
from dicom_node.routing.anatomy import Anatomy
from dicom_node.routing.elements import is_empty, judge_element, judge_range, verdict
from dicom_node.routing.laterality import Laterality
from dicom_node.routing.reading import Reading
from dicom_node.routing.sources import shortened, where
from dicom_node.routing.views import UNKNOWN, View, meets
from dicom_node.routing.vocabulary import vocabulary


def reads(conditions: Conditions) -> frozenset[str]:
    """Return the keywords of the attributes that `judge` looks at, besides those of a `Reading`.

    Instances of one sender and reading that agree in them are judged alike.
    """
    found = {"Modality", *conditions.attributes}
    if conditions.contrast is not None:
        found.update(CONTRAST)
    if conditions.slice_thickness_mm is not None:
        found.add("SliceThickness")
    if conditions.image_type is not None or conditions.not_image_type is not None:
        found.add("ImageType")
    return frozenset(found)


def judge(
    conditions: Conditions, facts: InstanceFacts, peers: Mapping[str, AnyPeer], reading: Reading
) -> tuple[Verdict, ...]:
    """Judge every condition that is given; all must hold for a match.

    Args:
        peers: By name, for the condition `sender`.
        reading: That of these facts.
    """
    return tuple(_judge(conditions, facts, peers, reading))


def _judge(
    wanted: Conditions, facts: InstanceFacts, peers: Mapping[str, AnyPeer], reading: Reading
) -> Iterator[Verdict]:
    attributes = facts.attributes
    if wanted.modality is not None:
        seen = shortened(str(attributes.get("Modality", "")))
        holds = seen.upper() in [m.upper() for m in wanted.modality]
        yield verdict("modality", wanted.modality, seen, where("Modality"), holds)
    if wanted.sop_class is not None:
        seen = facts.sop_class_uid
        name = UID(seen).name  # in full: some names are longer than what is shown
        holds = any(item == seen or squashed(item) == squashed(name) for item in wanted.sop_class)
        yield verdict("sop_class", wanted.sop_class, shortened(name), where("SOPClassUID"), holds)
    if wanted.sender is not None:
        yield _sender(wanted.sender, facts.sender, peers)
    if wanted.body_part is not None:
        yield _body_part(wanted.body_part, reading.anatomy)
    if wanted.view is not None:
        yield _view(wanted.view, reading.view)
    if wanted.laterality is not None:
        yield _laterality(wanted.laterality, reading.laterality)
    if wanted.contrast is not None:
        yield _contrast(wanted.contrast, attributes)
    if wanted.slice_thickness_mm is not None:
        condition = "slice_thickness_mm"
        yield judge_range(condition, "SliceThickness", wanted.slice_thickness_mm, attributes)
    if wanted.image_type is not None or wanted.not_image_type is not None:
        yield from _image_type(wanted, attributes)
    for keyword, test in wanted.attributes.items():
        yield judge_element(keyword, test, attributes)


def _sender(wanted: Sequence[str], sender: str, peers: Mapping[str, AnyPeer]) -> Verdict:
    names = [name for name, peer in peers.items() if sender and sender_of(name, peer) == sender]
    holds = sender in wanted or any(name in wanted for name in names)
    shown = shortened(sender)
    seen = f"{shown} (peer {', '.join(names)})" if names else shown
    note = "" if sender else "it was not received from anyone"
    return verdict("sender", wanted, seen, "calling AE title" if sender else "", holds, note)


def _body_part(wanted: Sequence[str], found: Anatomy) -> Verdict:
    words = vocabulary()
    regions = {region for text in wanted for region in words.of_body_part(text).regions}
    named = words.narrowest(found.named)
    seen = _read_as(found.seen, sorted(named))
    holds = bool(found.regions & regions)
    return verdict("body_part", wanted, seen, found.where, holds, found.why)


def _view(wanted: Sequence[str], view: View) -> Verdict:
    seen = _read_as(view.seen, [] if view.name == UNKNOWN else [view.name])
    holds = any(meets(view.name, name) for name in wanted)
    return verdict("view", wanted, seen, view.where, holds, view.why)


def _laterality(wanted: Sequence[Side], found: Laterality) -> Verdict:
    sides = found.sides or {Side.UNKNOWN}
    holds = not sides.isdisjoint(wanted)
    seen = _read_as(found.seen, sorted(found.sides - {Side.NONE}))
    texts = [str(side) for side in wanted]
    return verdict("laterality", texts, seen, found.where, holds, found.why)


def _read_as(seen: str, meaning: Sequence[str]) -> str:
    """Put what a text means behind it ("Knie re. (knee)"), unless it says just that."""
    if not seen or not meaning or {squashed(seen)} == {squashed(text) for text in meaning}:
        return seen
    return f"{seen} ({', '.join(meaning)})"


def _contrast(wanted: bool, attributes: Mapping[str, Any]) -> Verdict:
    keyword = contrast_given(attributes)
    if keyword is not None:
        return verdict("contrast", [wanted], "given", where(keyword), wanted)
    said = next((k for k in CONTRAST if not is_empty(attributes.get(k))), CONTRAST[0])
    return verdict("contrast", [wanted], "not given", where(said), not wanted)


def _image_type(wanted: Conditions, attributes: Mapping[str, Any]) -> Iterator[Verdict]:
    have = [text.upper() for text in texts_of(attributes.get("ImageType"))]
    seen = shortened("\\".join(have))
    if wanted.image_type is not None:
        holds = all(item.upper() in have for item in wanted.image_type)
        yield verdict("image_type", wanted.image_type, seen, where("ImageType"), holds)
    if wanted.not_image_type is not None:
        holds = not any(item.upper() in have for item in wanted.not_image_type)
        yield verdict("not_image_type", wanted.not_image_type, seen, where("ImageType"), holds)
