"""Log-in by OpenID Connect, against a scripted provider that keeps the rules or breaks one."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import RSAKey

from dicom_node.store import accounts
from dicom_node.web.oidc import Provider
from tests.unit.web.conftest import WebSite

ISSUER = "https://idp.hospital.example"
_KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
_OTHER_KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})


class ScriptedProvider(httpx.BaseTransport):
    """An identity provider; `claims` and `key` may be made wrong."""

    def __init__(self, web: WebSite) -> None:
        self.claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": "4711",
            "aud": "dicom-node",
            "exp": int(web.clock.now().timestamp()) + 300,
            "preferred_username": "HOSPITAL\\anna",
            "groups": ["staff", "pacs-admins"],
        }
        self.key = _KEY
        self.asked: dict[str, str] = {}
        self.is_down = False

    def let_in(self, address: str) -> str:
        """What the browser brings back after the user has logged in there."""
        self.asked = {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}
        return f"/login/callback?code=the-code&state={self.asked['state']}"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            raise httpx.ConnectError("down", request=request)
        match request.url.path:
            case "/.well-known/openid-configuration":
                return httpx.Response(
                    200,
                    json={
                        "issuer": ISSUER,
                        "authorization_endpoint": f"{ISSUER}/authorize",
                        "token_endpoint": f"{ISSUER}/token",
                        "jwks_uri": f"{ISSUER}/keys",
                    },
                )
            case "/keys":
                return httpx.Response(200, json={"keys": [_KEY.as_dict(private=False)]})
            case _:
                return self._token(request)

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.read().decode())
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (form["code"][0], challenge) != ("the-code", self.asked["code_challenge"]):
            return httpx.Response(400, json={"error": "invalid_grant"})
        claims = {"nonce": self.asked["nonce"], **self.claims}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return httpx.Response(
            200, json={"access_token": "a", "token_type": "Bearer", "id_token": token}
        )


@pytest.fixture
def web(make_site: Callable[..., WebSite]) -> WebSite:
    oidc = {
        "issuer": ISSUER,
        "client_id": "dicom-node",
        "roles": {"staff": "viewer", "pacs-admins": "admin"},
    }
    return make_site(web={"oidc": oidc})


@pytest.fixture
def idp(web: WebSite) -> ScriptedProvider:
    found = ScriptedProvider(web)
    section = web.context.web.oidc
    assert section is not None
    web.app.state.oidc_section = section
    web.app.state.oidc = Provider(section, web.clock, found)
    return found


def _log_in(browser: TestClient, idp: ScriptedProvider, path: str = "/studies") -> httpx.Response:
    away = browser.get("/login/provider", params={"next": path})
    assert away.status_code == 303
    assert away.headers["location"].startswith(f"{ISSUER}/authorize?")
    return browser.get(idp.let_in(away.headers["location"]))


def test_a_user_of_the_provider_comes_in_with_the_highest_role_of_its_groups(
    web: WebSite, idp: ScriptedProvider
) -> None:
    browser = web.browser()
    answer = _log_in(browser, idp)
    assert answer.status_code == 200
    assert re.search(r'http-equiv="refresh" content="0;url=/studies"', answer.text)
    assert idp.asked["code_challenge_method"] == "S256"
    assert browser.get("/studies").status_code == 200
    with web.database.read() as session:
        (line,) = accounts.listed(session)
    assert (line.name, line.role, line.by) == ("HOSPITAL_anna", "admin", "identity provider")


def test_the_role_follows_the_provider(web: WebSite, idp: ScriptedProvider) -> None:
    _log_in(web.browser(), idp)
    idp.claims["groups"] = "staff"
    _log_in(web.browser(), idp)
    with web.database.read() as session:
        assert [(line.role) for line in accounts.listed(session)] == ["viewer"]


def test_somebody_without_a_role_stays_outside(web: WebSite, idp: ScriptedProvider) -> None:
    idp.claims["groups"] = ["kitchen"]
    browser = web.browser()
    answer = _log_in(browser, idp)
    assert answer.status_code == 401
    assert "no role for this node" in answer.text
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "https://evil.example"),
        ("aud", "another-client"),
        ("nonce", "of another log-in"),
        ("exp", 1_000_000),
    ],
)
def test_a_token_that_is_not_for_this_log_in_is_refused(
    web: WebSite, idp: ScriptedProvider, claim: str, value: object
) -> None:
    idp.claims[claim] = value
    browser = web.browser()
    assert _log_in(browser, idp).status_code == 401
    assert browser.get("/").status_code == 303


def test_a_token_signed_by_somebody_else_is_refused(web: WebSite, idp: ScriptedProvider) -> None:
    idp.key = _OTHER_KEY
    assert _log_in(web.browser(), idp).status_code == 401


def test_an_answer_brought_into_another_browser_is_refused(
    web: WebSite, idp: ScriptedProvider
) -> None:
    away = web.browser().get("/login/provider")
    answer = web.browser().get(idp.let_in(away.headers["location"]))
    assert answer.status_code == 401
    assert "another browser" in answer.text


def test_an_answer_to_another_log_in_is_refused(web: WebSite, idp: ScriptedProvider) -> None:
    browser = web.browser()
    first = idp.let_in(browser.get("/login/provider").headers["location"])
    browser.get("/login/provider")
    assert browser.get(first).status_code == 401


def test_a_provider_that_is_down_is_told_and_passwords_still_work(
    web: WebSite, idp: ScriptedProvider
) -> None:
    idp.is_down = True
    answer = web.browser().get("/login/provider")
    assert answer.status_code == 401
    assert "it does not answer" in answer.text
    assert 'name="password"' in answer.text


def test_without_a_provider_there_is_no_such_log_in(make_site: Callable[..., WebSite]) -> None:
    assert make_site().browser().get("/login/provider").status_code == 404
