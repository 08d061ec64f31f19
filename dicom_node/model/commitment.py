"""Storage commitment: which instances a peer asks about, and what it is told (PS3.4 annex J)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, Protocol

from pydicom.dataset import Dataset

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class."""
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
REQUEST_ACTION: Final = 1
"""Action Type ID (PS3.4 Table J.3-1)."""
ALL_COMMITTED: Final = 1
SOME_FAILED: Final = 2
"""Event Types (PS3.4 Tables J.3-2 and J.3-3)."""


class Reference(NamedTuple):
    """An instance that is asked about."""

    sop_class_uid: str
    sop_instance_uid: str

    def as_item(self) -> Dataset:
        """Return it as an item of a Referenced SOP Sequence."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        return item


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 section C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


class CommitmentState(StrEnum):
    """requested → verified → reported; failed when nobody took the report."""

    REQUESTED = "requested"
    VERIFIED = "verified"
    REPORTED = "reported"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What an N-ACTION asks.

    Attributes:
        called_ae: The title of ours that the peer called: the report comes from it.
    """

    transaction_uid: str
    calling_ae: str
    called_ae: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """What is to be told by N-EVENT-REPORT.

    Attributes:
        failed: Why not, for each instance that is not committed.
    """

    transaction_uid: str
    calling_ae: str
    called_ae: str
    committed: Sequence[Reference]
    failed: Sequence[tuple[Reference, FailureReason]]


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a peer tells of our request by N-EVENT-REPORT.

    Attributes:
        failed: What it is not committed to, each with its Failure Reason.
    """

    transaction_uid: str
    committed: frozenset[Reference]
    failed: Mapping[Reference, int]


def read_report(event_type: int, information: Dataset) -> CommitmentReport:
    """Read the Event Information of a report (PS3.4 Tables J.3-2 and J.3-3).

    Raises:
        ValueError: It is none, or lacks something.
    """
    if event_type not in (ALL_COMMITTED, SOME_FAILED):
        raise ValueError("the event type is unknown")

    def reference(item: Dataset) -> Reference:
        return Reference(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))

    try:
        transaction_uid = str(information.TransactionUID)
        committed = {reference(item) for item in information.get("ReferencedSOPSequence") or ()}
        failed = {
            reference(item): int(item.get("FailureReason") or FailureReason.PROCESSING_FAILURE)
            for item in information.get("FailedSOPSequence") or ()
        }
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything; it is refused
        raise ValueError(f"the report cannot be read ({type(error).__name__})") from None
    return CommitmentReport(transaction_uid, frozenset(committed - failed.keys()), failed)


_REASONS: Final = {
    0x0110: "processing failure",
    0x0112: "it has no such object",
    0x0119: "it has another SOP class under this UID",
    0x0122: "it does not support the SOP class",
    0x0131: "the Transaction UID is in use",
    0x0213: "resource limitation",
}


def reason_text(reason: int) -> str:
    """Say a Failure Reason in words (PS3.3 section C.14.1.1)."""
    words = _REASONS.get(reason)
    return f"0x{reason:04X} ({words})" if words else f"0x{reason:04X}"


class Commitments(Protocol):
    """What a receiver's association needs; every method raises StoreError when it cannot."""

    def take(self, request: CommitmentRequest) -> bool:
        """Keep a request so that it survives; False: its UID belongs to another request."""
        ...

    def claim(self, calling_ae: str, transaction_uid: str) -> CommitmentResult | None:
        """Return a result that is there, to be reported on the association of its request."""
        ...

    def reported(self, result: CommitmentResult) -> None:
        """The peer has confirmed the report."""
        ...

    def let_go(self, calling_ae: str, transaction_uid: str) -> None:
        """The association has ended before: the report takes another."""
        ...

    def told(self, calling_ae: str, report: CommitmentReport) -> bool:
        """A peer reports on a request of ours; False: we have not asked it."""
        ...
