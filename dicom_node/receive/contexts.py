"""What the receiver offers: every storage SOP class, every transfer syntax it can keep."""

from __future__ import annotations

from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import (
    PresentationContext,
    VerificationPresentationContexts,
    build_context,
)

_RETIRED_JPEG: Final = tuple(
    f"1.2.840.10008.1.2.4.{number}" for number in (52, 53, 54, 55, 56, 58, *range(59, 67))
)
"""JPEG processes that the standard has retired; archives still hold and send them."""


def transfer_syntaxes() -> list[str]:
    """Return the transfer syntaxes that are offered.

    The receiver decodes nothing, so it can keep what pydicom cannot decode: such an image is
    reported as "not evaluated" instead of being lost at the door.
    """
    return [*map(str, AllTransferSyntaxes), *_RETIRED_JPEG]


def storage_classes() -> list[str]:
    """Return every storage SOP class of the standard, the retired ones included."""
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    named = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and "Commitment" not in name
    }
    return sorted(known | named - {"1.2.840.10008.1.3.10"})  # the DICOMDIR's class


def offered_contexts() -> list[PresentationContext]:
    """Return the presentation contexts of the receiver: Verification and all storage."""
    syntaxes = transfer_syntaxes()
    return [
        *VerificationPresentationContexts,
        *(build_context(uid, syntaxes) for uid in storage_classes()),
    ]
