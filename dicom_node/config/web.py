"""The section `web` of `node.yaml`: the dashboard and the API."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from pydantic import Field, model_validator

from dicom_node.model.access import Role
from dicom_node.model.conditions import Strict


class WebTlsSection(Strict):
    """The dashboard's own TLS.

    Attributes:
        certificate: PEM file with our certificate, then those between it and its root.
        key: PEM file with its private key, not encrypted.
    """

    certificate: Path
    key: Path


class OidcSection(Strict):
    """Log-in by the site's own identity provider (OpenID Connect, code flow with PKCE).

    Attributes:
        issuer: Its address; `/.well-known/openid-configuration` is looked up there.
        client_secret_file: File with our secret; None: a public client, PKCE alone.
        role_claim: Claim of the ID token that holds a role or a list of groups.
        roles: Which value of it is which role of ours; of several the highest counts, and
            who has none may not in.
        name_claim: Claim with the name that the audit trail shows.
    """

    issuer: str = Field(pattern=r"^https?://[^/\s@]+[^\s]*$")
    client_id: str = Field(min_length=1)
    client_secret_file: Path | None = None
    scopes: list[str] = Field(default_factory=lambda: ["openid", "profile"])
    role_claim: str = "groups"
    roles: dict[str, Role] = Field(min_length=1)
    name_claim: str = "preferred_username"

    @model_validator(mode="after")
    def _is_private(self) -> OidcSection:
        host = self.issuer.split("/")[2].rpartition(":")[0] or self.issuer.split("/")[2]
        if self.issuer.startswith("http://") and not is_loopback(host):
            raise ValueError("the identity provider must be asked by https")
        return self


class WebSection(Strict):
    """The dashboard, and the API for scripts.

    Attributes:
        host: Address to listen on; only this machine unless changed.
        allowed_hosts: Names under which browsers may reach it, beside this machine's own name,
            localhost and plain addresses.
        proxies: Addresses of the reverse proxies in front, whose X-Forwarded-For is believed;
            TLS ends there.
        session_minutes: Who does nothing for so long has to log in again.
        patients_for: The role from which on names and ids of patients are shown.
        max_upload_mb: The longest upload.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    tls: WebTlsSection | None = None
    allowed_hosts: list[str] = Field(default_factory=list)
    proxies: list[str] = Field(default_factory=list)
    session_minutes: float = Field(default=30, gt=0)
    patients_for: Role = Role.OPERATOR
    max_upload_mb: int = Field(default=512, ge=1)
    oidc: OidcSection | None = None

    @property
    def is_https(self) -> bool:
        """Whether browsers reach it by HTTPS, of our own or a proxy's."""
        return self.tls is not None or bool(self.proxies)

    @model_validator(mode="after")
    def _passwords_are_private(self) -> WebSection:
        if not self.is_https and not is_loopback(self.host):
            raise ValueError(
                f"on {self.host} passwords would cross the network in clear: give it `tls`, or "
                "name the proxies in front in `proxies`"
            )
        return self


def is_loopback(host: str) -> bool:
    """Tell whether an address is only reached from this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
