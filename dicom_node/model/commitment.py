"""Storage commitment: which instances a peer asks about, and what it is told (PS3.4 annex J)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol


class Reference(NamedTuple):
    """An instance that a peer asks about."""

    sop_class_uid: str
    sop_instance_uid: str


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
