"""What the receiver offers: every storage SOP class, every transfer syntax it can keep."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.model.commitment import PUSH_MODEL

VERIFICATION: Final = "1.2.840.10008.1.1"
COMMITMENT: Final = PUSH_MODEL
"""Storage Commitment Push Model."""
NOT_STORAGE: Final = frozenset({VERIFICATION, COMMITMENT})
_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"

_NONE_COMMON: Final = ["1.2.840.10008.1.2"]

_READABLE: Final = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
"""Of services whose data sets are read here, not kept."""

_RETIRED_JPEG: Final = tuple(
    f"1.2.840.10008.1.2.4.{number}" for number in (52, 53, 54, 55, 56, 58, *range(59, 67))
)
"""JPEG processes that the standard has retired; archives still hold and send them."""


@cache
def transfer_syntaxes() -> tuple[str, ...]:
    """Return the transfer syntaxes that are offered.

    The receiver decodes nothing, so it can keep what pydicom cannot decode: such an image is
    reported as "not evaluated" instead of being lost at the door.
    """
    return (*map(str, AllTransferSyntaxes), *_RETIRED_JPEG)


@cache
def storage_classes() -> frozenset[str]:
    """Return every storage SOP class of the standard, the retired ones included."""
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    named = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and "Commitment" not in name
    }
    return frozenset((known | named) - {_MEDIA_DIRECTORY})


def contexts_for(
    requested: Iterable[PresentationContext], extra_sop_classes: Iterable[str] = ()
) -> list[PresentationContext]:
    """Return what we support of what an association request proposes.

    The transfer syntaxes of each SOP class stand in the order in which they are proposed, for
    the first that both sides have is taken: a sender names first what it has, and should not
    have to decompress for us.
    """
    ours = storage_classes().union(extra_sop_classes, NOT_STORAGE)
    keepable = frozenset(transfer_syntaxes())
    readable = frozenset(_READABLE)
    proposed: dict[str, dict[str, None]] = {}
    for context in requested:
        name = str(context.abstract_syntax)
        if name in ours:
            known = proposed.setdefault(name, {})
            known.update(dict.fromkeys(map(str, context.transfer_syntax)))
    # of a class without a common transfer syntax, one that was not proposed: that is then said
    contexts = [
        build_context(
            name,
            [s for s in known if s in (readable if name in NOT_STORAGE else keepable)]
            or _NONE_COMMON,
        )
        for name, known in proposed.items()
    ]
    for context in contexts:
        if context.abstract_syntax == COMMITMENT:
            # a peer that we have asked reports by an association of its own, as the SCP
            context.scu_role = context.scp_role = True
    return contexts
