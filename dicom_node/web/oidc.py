"""Log-in by the site's identity provider: OpenID Connect Core 1.0, code flow with PKCE (RFC 7636).

The provider's answer is believed only with the state, nonce and verifier of a log-in that this
process began in the same browser, and with an ID token that the provider has signed for us.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from cryptography.fernet import Fernet, InvalidToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from dicom_node.clock import Clock
from dicom_node.config.web import OidcSection
from dicom_node.errors import ConfigError, NodeError
from dicom_node.model.access import Role

_PATIENCE: Final = 10.0
_BEGUN_LIVES: Final = 600
_LEEWAY: Final = 60
_SIGNED_BY: Final = ("RS256", "PS256", "ES256", "EdDSA")


@dataclass(frozen=True, slots=True)
class Begun:
    """A log-in that waits for the provider; it travels sealed in the browser's cookie."""

    state: str
    nonce: str
    verifier: str
    path: str


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom the provider vouches for; `role` None: it gives this user none of ours."""

    subject: str
    name: str
    role: Role | None


class Provider:
    """The identity provider of one node; what it publishes is looked up once.

    Args:
        transport: Instead of the network, for tests.
    """

    def __init__(
        self, section: OidcSection, clock: Clock, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._section = section
        self._clock = clock
        self._transport = transport
        self._seal = Fernet(Fernet.generate_key())
        self._lock = threading.Lock()
        self._published: dict[str, Any] | None = None
        self._keys: KeySet | None = None

    def begin(self, redirect_uri: str, path: str) -> tuple[str, str]:
        """Return the provider's address for a log-in, and the cookie that belongs to it.

        Raises:
            NodeError: The provider does not answer as one.
        """
        begun = Begun(
            secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), path
        )
        with self._client(redirect_uri) as client:
            address, _ = client.create_authorization_url(
                self._address("authorization_endpoint"),
                state=begun.state,
                nonce=begun.nonce,
                code_verifier=begun.verifier,
            )
        return str(address), self._seal.encrypt(json.dumps(asdict(begun)).encode()).decode()

    def finish(
        self, redirect_uri: str, cookie: str, answer: Mapping[str, str]
    ) -> tuple[Vouched, str]:
        """Return whom the provider vouches for, and the page that was wanted.

        Args:
            answer: What the provider has put into the address.

        Raises:
            NodeError: It is not the answer to a log-in of this browser, or does not hold.
        """
        begun = self._begun(cookie)
        if not hmac.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise _refused("its answer belongs to another log-in")
        if "error" in answer or not answer.get("code"):
            raise _refused("it let nobody in")
        try:
            with self._client(redirect_uri) as client:
                token = client.fetch_token(
                    self._address("token_endpoint"),
                    grant_type="authorization_code",
                    code=answer["code"],
                    code_verifier=begun.verifier,
                )
        except (AuthlibBaseError, httpx.HTTPError, ValueError):
            raise _refused("it did not give a token for its code") from None
        claims = self._claims(str(token.get("id_token") or ""), begun.nonce)
        return self._vouched(claims), begun.path

    def _begun(self, cookie: str) -> Begun:
        try:
            text = self._seal.decrypt(cookie.encode(), ttl=_BEGUN_LIVES)
        except InvalidToken:
            raise _refused("the log-in was begun in another browser, or too long ago") from None
        return Begun(**json.loads(text))

    def _claims(self, id_token: str, nonce: str) -> dict[str, Any]:
        """Verify an ID token (Core 1.0 section 3.1.3.7)."""
        section = self._section
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": section.issuer},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
            aud={"essential": True, "value": section.client_id},
        )
        for keys in (self._key_set(), self._key_set(anew=True)):
            try:
                token = jwt.decode(id_token, keys, algorithms=list(_SIGNED_BY))
            except (JoseError, ValueError):
                continue  # its keys may have changed since they were looked up
            try:
                registry.validate(token.claims)
            except JoseError as error:
                raise _refused(f"its token does not hold: {error.error}") from None
            return dict(token.claims)
        raise _refused("its token is not signed by a key of its own")

    def _vouched(self, claims: Mapping[str, Any]) -> Vouched:
        section = self._section
        given = claims.get(section.role_claim) or []
        values = [given] if isinstance(given, str) else [str(value) for value in given]
        roles = [section.roles[value] for value in values if value in section.roles]
        name = str(claims.get(section.name_claim) or claims["sub"])
        plain = "".join(x if x.isascii() and (x.isalnum() or x in "._@-") else "_" for x in name)
        return Vouched(
            subject=f"{section.issuer} {claims['sub']}"[:512],
            name=plain.lstrip("._@-")[:64],
            role=max(roles, key=list(Role).index) if roles else None,
        )

    def _client(self, redirect_uri: str) -> OAuth2Client:
        section = self._section
        secret = None
        if section.client_secret_file is not None:
            try:
                secret = section.client_secret_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise ConfigError(
                    f"secret file {section.client_secret_file}",
                    "it cannot be read",
                    "correct `web.oidc.client_secret_file`",
                ) from None
        return OAuth2Client(
            client_id=section.client_id,
            client_secret=secret,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=" ".join(section.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=_PATIENCE,
            transport=self._transport,
        )

    def _address(self, name: str) -> str:
        with self._lock:
            if self._published is None:
                where = f"{self._section.issuer.rstrip('/')}/.well-known/openid-configuration"
                published = self._get(where)
                if published.get("issuer") != self._section.issuer:
                    raise _refused("it says that it is another issuer")
                self._published = published
            address = self._published.get(name)
        if not isinstance(address, str):
            raise _refused(f"it publishes no {name}")
        return address

    def _key_set(self, *, anew: bool = False) -> KeySet:
        where = self._address("jwks_uri")
        with self._lock:
            if self._keys is None or anew:
                try:
                    self._keys = KeySet.import_key_set(self._get(where))  # type: ignore[arg-type]
                except (JoseError, ValueError, KeyError, TypeError):
                    raise _refused("its keys cannot be read") from None
            return self._keys

    def _get(self, address: str) -> dict[str, Any]:
        try:
            with httpx.Client(timeout=_PATIENCE, transport=self._transport) as client:
                found = client.get(address).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            raise _refused("it does not answer") from None
        if not isinstance(found, dict):
            raise _refused("it does not answer as one")
        return found


def _refused(why: str) -> NodeError:
    return NodeError("the identity provider", why, "try again; else ask an admin of this node")
