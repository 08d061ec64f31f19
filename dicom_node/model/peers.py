"""A peer: a remote DICOM application entity, as written in `node.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from dicom_node.model.conditions import Strict


def _ae_title(value: str) -> str:
    if not value.strip():
        raise ValueError("an AE title may not be blank")
    if len(value) > 16:
        raise ValueError(f"{value!r} has {len(value)} characters, an AE title at most 16")
    if "\\" in value or not value.isascii() or not value.isprintable():
        raise ValueError(f"{value!r} holds a character that an AE title may not hold")
    return value.strip()


AETitle = Annotated[str, AfterValidator(_ae_title)]
"""An AE title: 1 to 16 characters of the default repertoire, no backslash (PS3.5 Table 6.2-1)."""


class Peer(Strict):
    """A remote application entity: it may send to us, receive from us, or both.

    Attributes:
        needs_certificate: It is let in only by TLS with a client certificate that is verified.
    """

    ae_title: AETitle
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    needs_certificate: bool = False
