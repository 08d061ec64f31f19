"""Associations that we request of a peer in order to ask it for studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.status import code_to_category

from dicom_node.errors import AssociationError, RetrieveError, ServiceRefusedError, UnreachableError
from dicom_node.model.peers import Peer
from dicom_node.requestor import ScuSettings, associate

_T = TypeVar("_T")

FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
"""The services of the Study Root information model (PS3.4 section C.6.2.3)."""
PULL_TIMEOUT: Final = 600.0
"""Seconds without a word of a peer that was asked to send: some fetch the images from tape."""


class Line:
    """Opens associations to one peer, and says what is wrong when there is none.

    Args:
        name: The peer's in `node.yaml`.
    """

    def __init__(self, name: str, peer: Peer, settings: ScuSettings) -> None:
        self.name = name
        self.settings = settings
        self._peer = peer

    def open(
        self,
        contexts: Sequence[PresentationContext],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[tuple[Any, Callable[[Any], int]]] = (),
    ) -> Association:
        """Return an established association.

        Raises:
            ConfigError: A file that the peer's `tls` names cannot be used.
            RetrieveError: The peer accepts none of the contexts.
            UnreachableError: There is no association.
        """
        try:
            return associate(self.settings, self._peer, contexts, roles=roles, handlers=handlers)
        except ServiceRefusedError as error:
            raise RetrieveError(error.what, error.why, self._allow("query/retrieve")) from None
        except AssociationError as error:
            raise UnreachableError(error.what, error.why, error.fix) from None

    def check(self, association: Association, model: str, service: str) -> None:
        """See that the peer has accepted a service.

        Raises:
            RetrieveError: It has not.
        """
        if not any(item.abstract_syntax == model for item in association.accepted_contexts):
            raise RetrieveError(
                f"{service} of {self.name}",
                "the peer does not offer it to us",
                self._allow(service),
            )

    def ask(self, service: str, question: Callable[[], _T]) -> _T:
        """Send a request over an association that may end in this very moment.

        Raises:
            UnreachableError: It did.
        """
        try:
            return question()
        except RuntimeError:
            self.lost(service)

    def lost(self, service: str) -> NoReturn:
        """Say that an answer did not come.

        Raises:
            UnreachableError: Always.
        """
        raise UnreachableError(
            f"{service} of {self.name}",
            "no answer: timed out or the connection broke",
            "see whether the peer runs; `dicom-node check` tries it",
        )

    def _allow(self, service: str) -> str:
        return f"let it allow {service} to AE title {self.settings.ae_title}"


def end(association: Association) -> None:
    """Release an association that may have been lost meanwhile."""
    if association.is_established:
        association.release()


def code_of(status: Dataset) -> int | None:
    """Return the status of an answer; None when there was none."""
    code = status.get("Status")
    return None if code is None else int(code)


def said(status: Dataset) -> str:
    """Put a status into words."""
    code = code_of(status)
    if code is None:
        return "no answer: timed out or the connection broke"
    text = f"status 0x{code:04X} ({code_to_category(code)})"
    comment = str(status.get("ErrorComment") or "")
    return f"{text}: {comment}" if comment else text
