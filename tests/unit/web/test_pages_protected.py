"""Every page and end point asks who calls, and answers nobody else."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from dicom_node.model.access import Role
from dicom_node.web.app import PUBLIC, ROUTERS
from tests.unit.web.conftest import WebSite


def _endpoints() -> list[tuple[str, str]]:
    return [
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path not in PUBLIC
        for method in sorted(route.methods)
    ]


def test_nobody_gets_past_the_log_in(web: WebSite) -> None:
    browser = web.browser()
    found = _endpoints()
    assert ("GET", "/") in found
    for method, path in found:
        answer = browser.request(method, path.replace("{", "").replace("}", ""))
        if path.startswith("/api/"):
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
        else:
            assert answer.status_code == 303, f"{method} {path}: {answer.status_code}"
            assert answer.headers["location"].startswith("/login"), path


def test_a_session_without_the_forms_token_changes_nothing(web: WebSite) -> None:
    browser = web.logged_in(Role.ADMIN)
    del browser.headers["x-csrf-token"]
    for method, path in _endpoints():
        if method not in ("GET", "HEAD"):
            answer = browser.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == 403, f"{method} {path}: {answer.status_code}"


@pytest.mark.parametrize("path", ["/", "/login", "/no/such/page", "/static/node.css"])
def test_every_answer_has_the_security_headers(web: WebSite, path: str) -> None:
    answer = web.logged_in().get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
