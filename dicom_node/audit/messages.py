"""One event of the audit trail as an audit message in XML (PS3.15 section A.5.1).

It names no patient: the study is told by its UID, and so are people who work with the node, by
their account. What a person or a peer has written in words is left out, as nobody knows what it
quotes. The event's place in our own chain goes with each message, so that the repository holds
what the local trail can be compared with.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from ipaddress import ip_address
from typing import Any, Final
from xml.etree import ElementTree as ET

from dicom_node.audit.kinds import (
    APPLICATION,
    DESTINATION,
    MAPPED,
    SOURCE,
    STUDY_INSTANCE_UID,
    Shape,
    Told,
)
from dicom_node.config import NodeConfig
from dicom_node.model.codes import OWN_SCHEME, Code
from dicom_node.model.peers import Peer
from dicom_node.store.chain import Link

_URI: Final = Code("12", "RFC-3881", "URI")
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold; a caller may send them."""
_OUR_SENTENCES: Final = frozenset(
    {"association_rejected", "connection_refused", "instance_refused", "commitment_report_refused"}
)
"""Events whose `reason` is a sentence of our own."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who reports.

    Attributes:
        peers: (AE title or URL, host) of each peer of node.yaml, by its name.
    """

    source: str
    site: str | None
    ae_title: str
    host: str
    peers: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def identity_of(config: NodeConfig) -> Identity:
    """Return who we are, as node.yaml says."""
    ours = config.node.ae_title[0]
    section = config.audit
    return Identity(
        source=(section.source if section else None) or ours,
        site=section.site if section else None,
        ae_title=ours,
        host=socket.gethostname(),
        peers={
            name: (peer.ae_title, peer.host) if isinstance(peer, Peer) else (peer.url, "")
            for name, peer in config.peers.items()
        },
    )


def message_of(event: Any, identity: Identity, link: Link) -> str | None:
    """Return the message of an event; None when it is not one for the repository.

    Args:
        event: A row with the attributes of an `AuditEvent`.
        link: Its place in the chain.
    """
    told = MAPPED.get(event.kind)
    if told is None:
        return None
    root = ET.Element("AuditMessage")
    root.append(_event(event, told))
    for participant in _participants(event, told.shape, identity):
        root.append(participant)
    source = ET.SubElement(root, "AuditSourceIdentification")
    if identity.site:
        source.set("AuditEnterpriseSiteID", _text(identity.site))
    source.set("AuditSourceID", _text(identity.source))
    ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    others = event.data.get("studies")
    for uid in (event.study_uid, *(others if isinstance(others, list) else ())):
        if uid:
            root.append(_study(uid, event))
    root.append(_place(event, link))
    return '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(root, encoding="unicode")


def _event(event: Any, told: Told) -> ET.Element:
    element = ET.Element("EventIdentification")
    element.set("EventActionCode", told.action)
    at = event.at.astimezone(UTC)
    element.set("EventDateTime", at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    element.set("EventOutcomeIndicator", told.outcome)
    element.append(_coded("EventID", told.event))
    if told.type is not None:
        element.append(_coded("EventTypeCode", told.type))
    words = event.kind.replace("_", " ")
    element.append(_coded("EventTypeCode", Code(event.kind, OWN_SCHEME, words)))
    if event.kind in _OUR_SENTENCES and event.data.get("reason"):
        ET.SubElement(element, "EventOutcomeDescription").text = _text(event.data["reason"])
    return element


def _participants(event: Any, shape: Shape, us: Identity) -> Iterator[ET.Element]:
    data = event.data
    if shape in (Shape.FROM_PEER, Shape.PULLED):
        we_asked = shape is Shape.PULLED
        title, host = us.peers.get(event.peer or "", (event.peer or "unknown", ""))
        host = host or _host_of(us, title)
        yield _participant(title, requestor=not we_asked, role=SOURCE, where=host)
        yield _participant(us.ae_title, requestor=we_asked, role=DESTINATION, where=us.host)
    elif shape is Shape.TO_PEER:
        title, host = us.peers.get(event.peer or "", (event.peer or "unknown", ""))
        yield _participant(us.ae_title, requestor=True, role=SOURCE, where=us.host)
        yield _participant(title, role=DESTINATION, where=host)
    elif shape is Shape.CALLER:
        where = str(data.get("address") or "")
        yield _participant(event.peer or "unknown", requestor=True, role=SOURCE, where=where)
        called = str(data.get("called_ae") or us.ae_title)
        yield _participant(called, role=DESTINATION, where=us.host)
    elif shape is Shape.PERSON:
        who = str(data.get("by") or data.get("user") or "unknown")
        where = str(data.get("address") or "")
        yield _participant(who, requestor=True, where=where)
        yield _participant(us.ae_title, role=APPLICATION, where=us.host)
    else:
        who = f"{us.ae_title}/{data['role']}" if data.get("role") else us.ae_title
        yield _participant(who, requestor=True, role=APPLICATION, where=us.host)


def _participant(
    user: str, *, requestor: bool = False, role: Code | None = None, where: str = ""
) -> ET.Element:
    element = ET.Element("ActiveParticipant")
    element.set("UserID", _text(user))
    element.set("UserIsRequestor", "true" if requestor else "false")
    if where:
        element.set("NetworkAccessPointID", _text(where))
        element.set("NetworkAccessPointTypeCode", "2" if _is_address(where) else "1")
    if role is not None:
        element.append(_coded("RoleIDCode", role))
    return element


def _study(uid: str, event: Any) -> ET.Element:
    element = ET.Element("ParticipantObjectIdentification")
    element.set("ParticipantObjectID", _text(uid))
    element.set("ParticipantObjectTypeCode", "2")
    element.set("ParticipantObjectTypeCodeRole", "3")
    element.append(_coded("ParticipantObjectIDTypeCode", STUDY_INSTANCE_UID))
    # the schema wants a name; the study has none that could be told
    ET.SubElement(element, "ParticipantObjectName").text = "study"
    number = event.data.get("number")
    if isinstance(number, int):
        about = ET.SubElement(element, "ParticipantObjectDescription")
        ET.SubElement(about, "SOPClass", {"NumberOfInstances": str(number)})
    return element


def _place(event: Any, link: Link) -> ET.Element:
    element = ET.Element("ParticipantObjectIdentification")
    element.set("ParticipantObjectID", f"audit_events/{event.id}")
    element.set("ParticipantObjectTypeCode", "2")
    element.set("ParticipantObjectTypeCodeRole", "13")
    element.append(_coded("ParticipantObjectIDTypeCode", _URI))
    ET.SubElement(element, "ParticipantObjectName").text = "Security Audit Log"
    for name, value in (("position", str(link.position)), ("sha256", link.digest)):
        encoded = base64.b64encode(value.encode("ascii")).decode("ascii")
        ET.SubElement(element, "ParticipantObjectDetail", {"type": name, "value": encoded})
    return element


def _coded(name: str, code: Code) -> ET.Element:
    return ET.Element(
        name,
        {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning},
    )


def _host_of(us: Identity, title: str) -> str:
    return next((host for known, host in us.peers.values() if known == title), "")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    return _NOT_XML.sub("?", str(value))
