"""What the receiver tells the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ReceiveKind(StrEnum):
    """What happened; each is the kind of an audit event."""

    ASSOCIATION_REJECTED = "association_rejected"
    ASSOCIATION_ABORTED = "association_aborted"
    INSTANCE_REFUSED = "instance_refused"
    COMMITMENT_REFUSED = "commitment_refused"
    COMMITMENT_REPORT_REFUSED = "commitment_report_refused"
    CONNECTION_REFUSED = "connection_refused"


@dataclass(frozen=True, slots=True)
class ReceiveEvent:
    """One event of the receiver; never holds patient data.

    Attributes:
        status: C-STORE or N-ACTION status, or None.
        reason: Why, and what to do, in one sentence.
    """

    kind: ReceiveKind
    at: datetime
    calling_ae: str
    called_ae: str
    address: str
    reason: str
    status: int | None = None
    study_instance_uid: str = ""
    sop_instance_uid: str = ""


EventSink = Callable[[ReceiveEvent], None]
