"""Storage Commitment Push Model as SCU (PS3.4 annex J): a peer is asked to commit to objects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.delivery.answers import status_text
from dicom_node.errors import AssociationError, ServiceRefusedError
from dicom_node.model.commitment import (
    PUSH_MODEL,
    REQUEST_ACTION,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    Reference,
    read_report,
)
from dicom_node.model.peers import Peer
from dicom_node.requestor import ScuSettings, associate, serve_requests

_SUCCESS: Final = 0x0000
_INVALID_ARGUMENT: Final = 0x0115


class Outcome(Enum):
    """How a request ended; its report may come later."""

    TAKEN = "taken"
    REFUSED = "refused"
    AWAY = "away"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True, slots=True)
class Asked:
    """The outcome of a request, and what the peer (or the network) said."""

    outcome: Outcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What a peer is asked.

    Attributes:
        on_report: Takes a report on the same association; returns the status of its answer.
        hold_seconds: For so long the association stays open for the report.
    """

    transaction_uid: str
    references: Sequence[Reference]
    on_report: Callable[[CommitmentReport], int]
    hold_seconds: float = 3


_NONE: Final = "the peer has no storage commitment (set `storage_commitment: false`)"


def offers_commitment(settings: ScuSettings, peer: Peer) -> str | None:
    """Return None when a peer accepts storage commitment, else why not; asks for nothing."""
    try:
        association = associate(settings, peer, [build_context(PUSH_MODEL)])
    except ServiceRefusedError:
        return _NONE
    except AssociationError as error:
        return error.why
    association.release()
    return None


def ask(settings: ScuSettings, peer: Peer, begin: Callable[[], Question]) -> Asked:
    """Ask a peer for storage commitment by N-ACTION.

    Args:
        begin: Called when the association stands; what it returns has been kept.
    """
    told = threading.Event()
    question: Question | None = None

    def on_report(event: evt.Event) -> tuple[int, None]:
        if question is None:
            return _INVALID_ARGUMENT, None
        try:
            report = read_report(int(event.event_type or 0), event.event_information)
        except ValueError:
            return _INVALID_ARGUMENT, None
        status = question.on_report(report)
        if report.transaction_uid == question.transaction_uid:
            told.set()
        return status, None

    try:
        association = associate(
            settings,
            peer,
            [build_context(PUSH_MODEL)],
            handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
        )
    except ServiceRefusedError:
        return Asked(Outcome.NOT_OFFERED, _NONE)
    except AssociationError as error:
        return Asked(Outcome.AWAY, error.why)
    try:
        question = begin()
        status, _ = association.send_n_action(
            _information(question),
            REQUEST_ACTION,
            PUSH_MODEL,
            WELL_KNOWN_INSTANCE,
        )
        code = status.get("Status")
        if code != _SUCCESS:
            return Asked(Outcome.REFUSED, status_text(code))
        serve_requests(association)
        _wait(told, association, question.hold_seconds)
    except (ValueError, RuntimeError) as error:
        return Asked(Outcome.REFUSED, f"it could not be asked ({type(error).__name__})")
    finally:
        if association.is_established:
            association.release()
    return Asked(Outcome.TAKEN)


def _wait(told: threading.Event, association: Association, seconds: float) -> None:
    end = time.monotonic() + seconds
    while association.is_established and time.monotonic() < end:
        if told.wait(0.1):
            return


def _information(question: Question) -> Dataset:
    """Make the Action Information of a request (PS3.4 Table J.3-1)."""
    asked = Dataset()
    asked.TransactionUID = question.transaction_uid
    asked.ReferencedSOPSequence = DicomSequence(one.as_item() for one in question.references)
    return asked
