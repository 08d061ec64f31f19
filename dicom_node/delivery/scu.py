"""C-STORE of report objects to a peer, and C-ECHO, over pynetdicom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import VerificationPresentationContexts, build_context
from pynetdicom.status import code_to_category

from dicom_node.model.peers import Peer
from dicom_node.requestor import keep_answers

_UNCOMPRESSED: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class Verdict(Enum):
    """What an attempt means for the outbox."""

    SENT = "sent"
    TRY_AGAIN = "try again"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One object to send; `transfer_syntax_uid` None: one of the uncompressed, as negotiated."""

    id: int
    file: Path
    sop_class_uid: str
    transfer_syntax_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one attempt, and what the peer (or the network) said."""

    id: int
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class ScuSettings:
    """How we call peers; times in seconds."""

    ae_title: str
    connect_timeout: float = 10
    acse_timeout: float = 15
    dimse_timeout: float = 60


def store(settings: ScuSettings, peer: Peer, objects: Sequence[Outgoing]) -> Iterator[Answer]:
    """Send objects to a peer over one association; yields one answer for each.

    Only the SOP classes at hand are proposed, as many PACS refuse long lists. "Sent" means that
    the peer answered 0x0000 or a warning (PS3.4 Table B.2-1).
    """
    ae = _ae(settings)
    wanted = sorted({(item.sop_class_uid, item.transfer_syntax_uid or "") for item in objects})
    # a context each, as the acceptor chooses only one transfer syntax of a context
    ae.requested_contexts = [build_context(uid, syntax or _UNCOMPRESSED) for uid, syntax in wanted]
    association = _associate(ae, peer)
    if not association.is_established:
        why = _not_established(association)
        for item in objects:
            yield Answer(item.id, Verdict.TRY_AGAIN, why)
        return
    try:
        for item in objects:
            yield _store_one(association, item)
    finally:
        if association.is_established:
            association.release()


def echo(settings: ScuSettings, peer: Peer) -> str | None:
    """C-ECHO a peer; returns None when it answers, else why not."""
    ae = _ae(settings)
    ae.requested_contexts = VerificationPresentationContexts
    association = _associate(ae, peer)
    if not association.is_established:
        return _not_established(association)
    try:
        status = association.send_c_echo()
    finally:
        if association.is_established:
            association.release()
    code = status.get("Status")
    return None if code == 0 else _status_text(code, "")


def _ae(settings: ScuSettings) -> AE:
    ae = AE(settings.ae_title)
    ae.connection_timeout = settings.connect_timeout
    ae.acse_timeout = settings.acse_timeout
    ae.dimse_timeout = settings.dimse_timeout
    ae.network_timeout = settings.dimse_timeout
    return ae


def _associate(ae: AE, peer: Peer) -> Association:
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    keep_answers(association)
    return association


def _store_one(association: Association, item: Outgoing) -> Answer:
    if not association.is_established:
        return Answer(item.id, Verdict.TRY_AGAIN, "the association was lost before this object")
    accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    if item.sop_class_uid not in accepted:
        return Answer(
            item.id,
            Verdict.TRY_AGAIN,
            f"the peer does not accept the SOP class {item.sop_class_uid}",
        )
    try:
        dataset = dcmread(item.file)
    except FileNotFoundError:
        return Answer(item.id, Verdict.NEVER, "the report's file is gone from the reports folder")
    except (OSError, InvalidDicomError) as error:
        return Answer(
            item.id, Verdict.TRY_AGAIN, f"the report's file cannot be read: {type(error).__name__}"
        )
    try:
        status = association.send_c_store(dataset)
    except (ValueError, RuntimeError) as error:
        return Answer(item.id, Verdict.TRY_AGAIN, f"it could not be sent: {error}")
    code = status.get("Status")
    comment = str(status.get("ErrorComment") or "")
    if code is None:
        return Answer(item.id, Verdict.TRY_AGAIN, "no answer: timed out or the connection broke")
    text = _status_text(code, comment)
    sent = code_to_category(code) in ("Success", "Warning")
    return Answer(item.id, Verdict.SENT if sent else Verdict.TRY_AGAIN, text)


def _status_text(code: int | None, comment: str) -> str:
    if code is None:
        return "no answer: timed out or the connection broke"
    text = f"status 0x{code:04X} ({code_to_category(code)})"
    return f"{text}: {comment}" if comment else text


_REASONS: dict[tuple[int, int], str] = {
    (1, 3): "it does not know our AE title (calling AE title not recognised)",
    (1, 7): "it does not know its AE title as we call it (called AE title not recognised)",
    (3, 1): "it is congested",
    (3, 2): "its limit of associations is reached",
}
"""(source, reason) of an A-ASSOCIATE-RJ in words (PS3.8 Table 9-21)."""


def _not_established(association: Association) -> str:
    if association.is_rejected:
        primitive = association.acceptor.primitive
        source = (primitive.result_source if primitive else None) or 0
        reason = (primitive.diagnostic if primitive else None) or 0
        words = _REASONS.get((source, reason), f"source {source}, reason {reason}")
        return f"the peer rejected the association: {words}"
    if association.is_aborted:
        return "no association: the connection failed or the peer aborted"
    return "no association: the peer accepted none of our SOP classes"


Store = Callable[[Peer, Sequence[Outgoing]], Iterator[Answer]]
