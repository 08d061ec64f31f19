"""A peer, as written in `node.yaml`: a remote application entity, or a DICOMweb server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from dicom_node.model.conditions import Strict
from dicom_node.model.documents import DocumentClass


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


class PeerTls(Strict):
    """TLS 1.2 and 1.3 (BCP 195) for what we send to a peer.

    Attributes:
        ca: PEM file that the peer's certificate is verified with; None: the system's.
        certificate: PEM file with our certificate, for a peer that asks for one.
        key: PEM file with its private key, not encrypted.
        check_host_name: The certificate must be for the peer's host.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    check_host_name: bool = True

    @model_validator(mode="after")
    def _whole(self) -> PeerTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` are given together or not at all")
        return self


class Peer(Strict):
    """A remote application entity: it may send to us, receive from us, or both.

    Attributes:
        needs_certificate: It is let in only by TLS with a client certificate that is verified.
        tls: What we send to it goes by TLS.
        storage_commitment: It is asked to commit to what we have sent (PS3.4 annex J).
        commitment_timeout_seconds: It is asked again when it has not reported for so long.
        sr_classes: SOP classes of the SR for it, best first; it gets the first that it accepts.
    """

    ae_title: AETitle
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    needs_certificate: bool = False
    tls: PeerTls | None = None
    storage_commitment: bool = False
    commitment_timeout_seconds: float = Field(default=3600, gt=0)
    retrieve: Literal["move", "get"] = "move"
    sr_classes: list[DocumentClass] = Field(default=list(DocumentClass), min_length=1)


class WebAuth(Strict):
    """Who we are to a DICOMweb server; the secrets are in files of their own.

    Attributes:
        token_file: File with a bearer token (RFC 6750).
        user: Name for basic authentication (RFC 7617).
        password_file: File with its password.
    """

    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _one_way(self) -> WebAuth:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("`user` and `password_file` are given together or not at all")
        if (self.token_file is None) == (self.user is None):
            raise ValueError("give either `token_file`, or `user` and `password_file`")
        if self.user is not None and (":" in self.user or not self.user.isprintable()):
            raise ValueError("a `user` may hold no colon and no control character")
        return self


def is_web_address(value: str) -> bool:
    """Tell whether a text is an address of the web, with a host."""
    try:
        parts = urlsplit(value)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and value.isascii() and value.isprintable() and " " not in value


def _service_url(value: str) -> str:
    if not is_web_address(value):
        raise ValueError(f"{value!r} is no address of a DICOMweb service (https://HOST/PATH)")
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with a password does not belong here: use `auth`")
    if parts.query or parts.fragment:
        raise ValueError(f"{value!r} may have no query and no fragment")
    return value.rstrip("/")


class WebPeer(Strict):
    """A DICOMweb server that receives from us by STOW-RS (PS3.18 section 10.5).

    Attributes:
        url: Address of the service; `/studies` is put behind it.
    """

    url: Annotated[str, AfterValidator(_service_url)]
    auth: WebAuth | None = None
    tls: PeerTls | None = None

    @model_validator(mode="after")
    def _tls_is_used(self) -> WebPeer:
        if self.tls is not None and not self.url.startswith("https:"):
            raise ValueError("`tls` is given, but the `url` is not https")
        return self


def _kind(value: Any) -> str:
    web = "url" in value if isinstance(value, Mapping) else isinstance(value, WebPeer)
    return "web" if web else "dicom"


PEER_KINDS: Final[Mapping[str, type[Strict]]] = {"dicom": Peer, "web": WebPeer}
"""What a peer may be: one with a `url` is a web peer."""

AnyPeer = Annotated[
    Annotated[Peer, Tag("dicom")] | Annotated[WebPeer, Tag("web")], Discriminator(_kind)
]


def sender_of(name: str, peer: AnyPeer) -> str:
    """Return as whose a peer's images are known: by its AE title.

    A DICOMweb server has none: by the peer's name, as far as an AE title can hold it.
    """
    if isinstance(peer, Peer):
        return peer.ae_title
    kept = (sign for sign in name if sign.isascii() and sign.isprintable() and sign != "\\")
    return "".join(kept).strip()[:16].strip()
