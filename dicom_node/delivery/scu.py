"""C-STORE of report objects to a peer, and C-ECHO, over pynetdicom."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import _config as pynetdicom_config
from pynetdicom.association import Association
from pynetdicom.presentation import VerificationPresentationContexts, build_context

from dicom_node.delivery.answers import Answer, Outgoing, Verdict, status_text, verdict_of
from dicom_node.delivery.comments import without_patient
from dicom_node.delivery.transcode import UNCOMPRESSED, can_be_uncompressed, uncompress
from dicom_node.errors import AssociationError
from dicom_node.model.peers import Peer
from dicom_node.model.unreadable import UNREADABLE
from dicom_node.requestor import ScuSettings, associate

_MAX_CONTEXTS: Final = 128
"""Presentation contexts that one association may propose (PS3.8 section 9.3.2.2)."""
_MOST_LOST: Final = 3
"""Associations that may be lost before the rest is left for later: one object that a peer breaks
off on holds up none behind it, and a peer that answers nothing does not take all day."""
_SEVERAL: Final = ""
"""Stands for the uncompressed transfer syntaxes, of which the peer chooses one."""

# pynetdicom's own setting: an object that is given by its path is read while it is sent
pynetdicom_config.STORE_SEND_CHUNKED_DATASET = True


@dataclass(frozen=True, slots=True)
class CStore:
    """A peer that is sent to by C-STORE: a kind of `Destination`."""

    settings: ScuSettings
    peer: Peer

    def send(self, objects: Sequence[Outgoing]) -> Iterator[Answer]:
        """Send objects over one association, or a few where their contexts are too many."""
        return store(self.settings, self.peer, objects)

    def check(self) -> str | None:
        """C-ECHO."""
        return echo(self.settings, self.peer)


def store(settings: ScuSettings, peer: Peer, objects: Sequence[Outgoing]) -> Iterator[Answer]:
    """Send objects to a peer over one association, or a new one for what a lost one leaves.

    Yields one answer for each.

    Only the SOP classes at hand are proposed, as many PACS refuse long lists. An object goes in
    the transfer syntax of its file, or uncompressed when the peer takes it only so.
    """
    ready: list[Outgoing] = []
    for item in objects:
        try:
            ready.append(_with_syntax(item))
        except UNREADABLE as error:
            yield _unreadable(item, error)
    for batch in _batches(ready):
        yield from _store_batch(settings, peer, batch)


def echo(settings: ScuSettings, peer: Peer) -> str | None:
    """C-ECHO a peer; returns None when it answers, else why not."""
    try:
        association = associate(settings, peer, VerificationPresentationContexts)
    except AssociationError as error:
        return error.why
    try:
        status = association.send_c_echo()
    except (ValueError, RuntimeError) as error:
        return f"it could not be asked: {error}"
    finally:
        if association.is_established:
            association.release()
    code = status.get("Status")
    return None if code == 0 else status_text(code)


def _with_syntax(item: Outgoing) -> Outgoing:
    syntax = item.transfer_syntax_uid or str(read_file_meta_info(item.file).TransferSyntaxUID)
    others = tuple(_with_syntax(other) for other in item.alternatives)
    return replace(item, transfer_syntax_uid=syntax, alternatives=others)


def _wanted(item: Outgoing) -> set[tuple[str, str]]:
    """The contexts that an object may take: SOP class and transfer syntax."""
    syntax = item.transfer_syntax_uid or ""
    wanted = set() if syntax in UNCOMPRESSED else {(item.sop_class_uid, syntax)}
    if can_be_uncompressed(syntax):
        wanted.add((item.sop_class_uid, _SEVERAL))
    return wanted.union(*map(_wanted, item.alternatives))


def _batches(objects: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    batch: list[Outgoing] = []
    contexts: set[tuple[str, str]] = set()
    for item in objects:
        more = _wanted(item)
        if len(contexts | more) > _MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(item)
        contexts |= more
    if batch:
        yield batch


def _store_batch(
    settings: ScuSettings, peer: Peer, objects: Sequence[Outgoing]
) -> Iterator[Answer]:
    wanted = sorted(set().union(*map(_wanted, objects)))
    # a context each, as the acceptor chooses only one transfer syntax of a context
    contexts = [build_context(uid, syntax or list(UNCOMPRESSED)) for uid, syntax in wanted]
    left = deque(objects)
    for _ in range(_MOST_LOST):
        try:
            association = associate(settings, peer, contexts)
        except AssociationError as error:
            for item in left:
                yield Answer(item.id, Verdict.TRY_AGAIN, error.why, away=True)
            return
        try:
            while left and association.is_established:
                yield _store_one(association, left.popleft())
        finally:
            if association.is_established:
                association.release()
        if not left:
            return
    for item in left:
        yield Answer(item.id, Verdict.TRY_AGAIN, "the association was lost before this object")


def _store_one(association: Association, item: Outgoing) -> Answer:
    for form in (item, *item.alternatives):
        accepted = {
            str(context.transfer_syntax[0])
            for context in association.accepted_contexts
            if context.abstract_syntax == form.sop_class_uid
        }
        if accepted:
            answer = _store_form(association, form, accepted)
            return replace(answer, sop_class_uid=form.sop_class_uid)
    classes = " nor ".join(form.sop_class_uid for form in (item, *item.alternatives))
    why = f"the peer does not accept the SOP class {classes}"
    return Answer(item.id, Verdict.TRY_AGAIN, why)


def _store_form(association: Association, item: Outgoing, accepted: set[str]) -> Answer:
    as_it_lies = item.transfer_syntax_uid in accepted
    try:
        dataset = dcmread(item.file, stop_before_pixels=as_it_lies)
    except UNREADABLE as error:
        return _unreadable(item, error)
    if not as_it_lies:
        why_not = _uncompress(dataset, accepted)
        if why_not is not None:
            return Answer(item.id, Verdict.TRY_AGAIN, why_not)
    try:
        asked = time.monotonic()
        # a file goes in pieces and is never whole in memory; of the uncompressed transfer
        # syntaxes, pynetdicom encodes a data set in the accepted one
        status = association.send_c_store(item.file if as_it_lies else dataset)
        took = time.monotonic() - asked
    except OSError as error:
        association.abort()  # what was begun cannot be ended
        return _unreadable(item, error)
    except (*UNREADABLE, RuntimeError) as error:
        return Answer(item.id, Verdict.TRY_AGAIN, f"it could not be sent ({type(error).__name__})")
    code = status.get("Status")
    if code is None:
        association.abort()  # one that the peer has broken off still counts as established a while
        return Answer(item.id, Verdict.TRY_AGAIN, status_text(None))
    comment = without_patient(str(status.get("ErrorComment") or ""), dataset)
    text = status_text(code, comment)
    return Answer(item.id, verdict_of(code), text, seconds=took)


def _uncompress(dataset: FileDataset, accepted: set[str]) -> str | None:
    """Make a data set fit for a peer that does not take its transfer syntax, or say why not."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not (can_be_uncompressed(syntax) and accepted.intersection(UNCOMPRESSED)):
        return f"the peer does not accept the transfer syntax {syntax.name}"
    try:
        uncompress(dataset)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return (
            f"the peer does not accept the transfer syntax {syntax.name}, and the pixels cannot "
            f"be decompressed here ({type(error).__name__})"
        )
    return None


def _unreadable(item: Outgoing, error: Exception) -> Answer:
    if isinstance(error, FileNotFoundError):
        return Answer(item.id, Verdict.NEVER, "the report's file is gone from the reports folder")
    return Answer(
        item.id, Verdict.TRY_AGAIN, f"the report's file cannot be read: {type(error).__name__}"
    )
