"""The tables of `docs/conformance.md`, drawn from the code.

`python -m tests.unit.docs.conformance_tables` writes them into the document, between the lines
`<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID

from dicom_node import __version__
from dicom_node.audit import MAPPED
from dicom_node.config.schema import NodeSection, ReceiveSection, RetrySection
from dicom_node.delivery import ScuSettings
from dicom_node.model.own_codes import OWN_CODES
from dicom_node.receive import filing, policy
from dicom_node.receive.contexts import VERIFICATION, storage_classes, transfer_syntaxes
from dicom_node.receive.settings import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
)
from dicom_node.receive.storing import SUCCESS

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "conformance.md"

STATUS_MEANINGS: Final[Mapping[int, str]] = {
    SUCCESS: "The instance is on disk, synchronised; it survives a power loss.",
    filing.OUT_OF_RESOURCES: "Too little free space, or the disk refused. Nothing was kept.",
    filing.MISMATCH: "The data set's SOP Class or SOP Instance UID is not that of the request.",
    filing.CANNOT_UNDERSTAND: (
        "The data set is cut off or malformed, or one of its Study, Series and SOP Instance UIDs "
        "is missing or no UID."
    ),
    filing.SOP_CLASS_NOT_SUPPORTED: (
        "The request's SOP Class is not that of its presentation context."
    ),
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _name(uid: str) -> str:
    name, _, _, retired, _ = UID_dictionary.get(uid, (UID(uid).name, "", "", "", ""))
    return f"{name} (retired)" if retired and "(Retired)" not in name else name


def statuses() -> str:
    rows = [(f"0x{code:04X}", text) for code, text in STATUS_MEANINGS.items()]
    return _table(("status", "when"), rows)


def rejections() -> str:
    user, presentation = policy._SERVICE_USER, policy._PRESENTATION
    permanent, transient = policy._PERMANENT, policy._TRANSIENT
    rows = [
        (permanent, user, policy._CALLED_NOT_RECOGNISED, "The called AE title is none of ours."),
        (permanent, user, policy._CALLING_NOT_RECOGNISED, "The calling AE title may not send."),
        (
            transient,
            presentation,
            policy._LOCAL_LIMIT_EXCEEDED,
            "`node.max_associations` or `receive.max_associations_per_peer` are in use.",
        ),
    ]
    return _table(
        ("result", "source", "reason", "when"),
        [(str(result), str(source), str(reason), text) for result, source, reason, text in rows],
    )


def acceptor() -> str:
    node, receive = NodeSection.model_fields, ReceiveSection()
    return _table(
        ("what", "value"),
        [
            ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
            (
                "Implementation Version Name",
                f"`{IMPLEMENTATION_VERSION.replace(__version__, 'VERSION')}`",
            ),
            (
                "Maximum PDU length received",
                f"`receive.max_pdu_kb`, {receive.max_pdu_kb * 1024} bytes",
            ),
            (
                "Associations at a time",
                f"`node.max_associations`, {node['max_associations'].default}",
            ),
            ("TCP connections at a time", f"`receive.max_connections`, {receive.max_connections}"),
            (
                "Time-out for the A-ASSOCIATE request",
                f"`receive.request_seconds`, {receive.request_seconds:g} s",
            ),
            (
                "Time-out without any data, then A-ABORT",
                f"`receive.idle_seconds`, {receive.idle_seconds:g} s",
            ),
            ("Asynchronous operations", "not negotiated: one at a time"),
            (
                "Roles",
                "SCP; of Storage Commitment Push Model also SCU, when the requestor selects the "
                "role of the SCP",
            ),
        ],
    )


def requestor() -> str:
    settings = ScuSettings("A")
    retry = RetrySection()
    longest = timedelta(seconds=retry.longest_seconds)
    return _table(
        ("what", "value"),
        [
            ("Time-out for the connection", f"{settings.connect_timeout:g} s"),
            ("Time-out for association messages", f"{settings.acse_timeout:g} s"),
            ("Time-out for an answer", f"{settings.dimse_timeout:g} s"),
            ("Associations to one peer", "one at a time"),
            (
                "Attempts",
                f"again after {retry.first_seconds:g} s, doubled up to "
                f"{longest.total_seconds() / 60:g} min, for {retry.give_up_after_hours:g} h",
            ),
        ],
    )


def syntaxes() -> str:
    return _table(("UID", "transfer syntax"), [(uid, _name(uid)) for uid in transfer_syntaxes()])


def classes() -> str:
    found = sorted(storage_classes(), key=lambda uid: [int(part) for part in uid.split(".")])
    return _table(("UID", "SOP class"), [(uid, _name(uid)) for uid in (VERIFICATION, *found)])


def codes() -> str:
    return _table(
        ("code value", "meaning"), [(code.value, code.meaning) for code in OWN_CODES.values()]
    )


def audit_messages() -> str:
    rows = [
        (f"`{kind}`", str(told.event), str(told.type or "–"), told.action, told.outcome)
        for kind, told in sorted(MAPPED.items(), key=lambda item: (item[1].event.value, item[0]))
    ]
    return _table(("event of ours", "EventID", "EventTypeCode", "action", "outcome"), rows)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "audit": audit_messages,
    "statuses": statuses,
    "rejections": rejections,
    "acceptor": acceptor,
    "requestor": requestor,
    "transfer syntaxes": syntaxes,
    "sop classes": classes,
    "own codes": codes,
}


def drawn_in(text: str) -> dict[str, str]:
    """The tables of a document, by name."""
    found = re.findall(r"<!-- (?!end)([\w ]+) -->\n(.*?)\n?<!-- end -->", text, re.DOTALL)
    return {name: table.strip() for name, table in found}


def redrawn(text: str) -> str:
    """A document with its tables drawn anew."""
    for name, draw in TABLES.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match, draw=draw: f"{match[1]}{draw()}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(redrawn(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
