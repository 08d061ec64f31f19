"""Storage Commitment Push Model as SCP (PS3.4 annex J): its request and report as data sets."""

from __future__ import annotations

from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import build_role
from pynetdicom.presentation import build_context

from dicom_node.errors import AssociationError, ServiceRefusedError
from dicom_node.model.commitment import (
    ALL_COMMITTED,
    REQUEST_ACTION,
    SOME_FAILED,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    CommitmentResult,
    Reference,
    read_report,
)
from dicom_node.model.identifiers import is_valid_uid
from dicom_node.model.peers import Peer
from dicom_node.receive.contexts import COMMITMENT
from dicom_node.receive.policy import Caller
from dicom_node.requestor import ScuSettings, associate

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115
NO_SUCH_ACTION: Final = 0x0123
"""N-ACTION statuses (PS3.7 section 10.1.4.1.10)."""


class RefusedActionError(Exception):
    """An N-ACTION request that cannot be taken; `status` says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def read_request(event: Any, caller: Caller) -> CommitmentRequest:
    """Read the request of pynetdicom's N-ACTION event.

    Raises:
        RefusedActionError: It is none, or lacks something.
    """
    if event.action_type != REQUEST_ACTION:
        raise RefusedActionError(NO_SUCH_ACTION, "the only action is 1, a request")
    if str(event.request.RequestedSOPInstanceUID) != WELL_KNOWN_INSTANCE:
        raise RefusedActionError(NO_SUCH_INSTANCE, "the instance is not the well-known one")
    try:
        asked = event.action_information
        transaction = str(asked.get("TransactionUID", ""))
        references = tuple(
            Reference(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in asked.get("ReferencedSOPSequence") or ()
        )
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything; it is refused
        raise RefusedActionError(
            INVALID_ARGUMENT, f"the request cannot be read ({type(error).__name__})"
        ) from None
    uids = (transaction, *(uid for reference in references for uid in reference))
    if not references or not all(map(is_valid_uid, uids)):
        raise RefusedActionError(
            INVALID_ARGUMENT, "Transaction UID or Referenced SOP Sequence is missing or wrong"
        )
    return CommitmentRequest(transaction, caller.calling_ae, caller.called_ae, references)


def event_type(result: CommitmentResult) -> int:
    """Return the Event Type ID of a report."""
    return SOME_FAILED if result.failed else ALL_COMMITTED


def event_information(result: CommitmentResult) -> Dataset:
    """Make the Event Information of a report (PS3.4 Tables J.3-2 and J.3-3)."""
    told = Dataset()
    told.TransactionUID = result.transaction_uid
    if result.committed:
        told.ReferencedSOPSequence = Sequence(one.as_item() for one in result.committed)
    if result.failed:
        failed = []
        for reference, reason in result.failed:
            item = reference.as_item()
            item.FailureReason = int(reason)
            failed.append(item)
        told.FailedSOPSequence = Sequence(failed)
    return told


def read_told(event: Any) -> CommitmentReport:
    """Read what a peer tells of our own request, of pynetdicom's N-EVENT-REPORT event.

    Raises:
        RefusedActionError: It is no report, or lacks something.
    """
    try:
        return read_report(int(event.event_type or 0), event.event_information)
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything; it is refused
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise RefusedActionError(INVALID_ARGUMENT, reason) from None


def report(peer: Peer, result: CommitmentResult) -> str | None:
    """Tell a peer by an association of our own; returns None when it has confirmed, else why not.

    We call as the title that it called us by, in the role of the SCP (PS3.4 section J.3.3).
    """
    settings = ScuSettings(result.called_ae, connect_timeout=5, dimse_timeout=30)
    roles = [build_role(COMMITMENT, scp_role=True)]
    try:
        association = associate(settings, peer, [build_context(COMMITMENT)], roles=roles)
    except ServiceRefusedError:
        return "the peer does not take storage commitment reports"
    except AssociationError as error:
        return error.why
    try:
        status, _ = association.send_n_event_report(
            event_information(result), event_type(result), COMMITMENT, WELL_KNOWN_INSTANCE
        )
    except (ValueError, RuntimeError) as error:
        return f"the report could not be sent ({type(error).__name__})"
    finally:
        if association.is_established:
            association.release()
    code = status.get("Status")
    if code is None:
        return "no answer: timed out or the connection broke"
    return None if code == SUCCESS else f"status 0x{code:04X}"
