"""Logging in and out, the first admin, and what is counted, refused and audited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from dicom_node.model.access import Role
from dicom_node.store import accounts, sessions
from dicom_node.store.access_tables import LoginAttempt, WebSession
from dicom_node.store.tables import AuditEvent
from tests.unit.web.conftest import PASSWORD, WebSite, csrf_in


@pytest.fixture
def anna(web: WebSite) -> str:
    with web.database.write() as session:
        password_hash = accounts.hash_password(PASSWORD)
        accounts.add(session, "anna", Role.OPERATOR, password_hash, web.clock.now(), by="test")
    return "anna"


def _kinds(web: WebSite) -> list[str]:
    with web.database.read() as session:
        return list(session.scalars(select(AuditEvent.kind).order_by(AuditEvent.id)))


def test_the_right_password_leads_to_the_page_that_was_wanted(web: WebSite, anna: str) -> None:
    browser = web.browser()
    asked = browser.get("/studies?state=held")
    assert asked.headers["location"] == "/login?next=%2Fstudies%3Fstate%3Dheld"
    form = {"name": anna, "password": PASSWORD, "next": "/studies?state=held"}
    answer = browser.post("/login", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies?state=held")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/studies").status_code == 200
    assert _kinds(web)[-1] == "login"


def test_a_page_that_looks_on_is_told_that_nobody_is_logged_in(web: WebSite) -> None:
    """An EventSource that is redirected to a page gives up, and nobody learns why."""
    asked = web.browser().get("/live/events", headers={"Accept": "text/event-stream"})
    assert asked.status_code == 200
    assert asked.headers["content-type"].startswith("text/event-stream")
    assert asked.text == "event: gone\ndata: {}\n\n"


def test_with_https_the_cookie_is_for_https_and_this_host_only(
    make_site: Callable[..., WebSite],
) -> None:
    web = make_site(web={"proxies": ["127.0.0.1"]})
    with web.database.write() as session:
        password_hash = accounts.hash_password(PASSWORD)
        accounts.add(session, "anna", Role.VIEWER, password_hash, web.clock.now(), by="test")
    answer = web.browser().post("/login", data={"name": "anna", "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Host-dicom_node_session=")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize(
    "there", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_the_log_in_leads_nowhere_else(web: WebSite, anna: str, there: str) -> None:
    answer = web.browser().post("/login", data={"name": anna, "password": PASSWORD, "next": there})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("name", ["anna", "nobody"])
def test_a_wrong_password_and_an_unknown_name_look_alike(
    web: WebSite, anna: str, name: str
) -> None:
    answer = web.browser().post("/login", data={"name": name, "password": "wrong"})
    assert answer.status_code == 401
    assert "do not fit" in answer.text
    assert _kinds(web)[-1] == "login_failed"


@pytest.mark.parametrize("name", ["anna", "by-provider", "nobody"])
def test_every_name_costs_one_verification(
    web: WebSite, anna: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web.database.write() as session:
        accounts.add(session, "by-provider", Role.VIEWER, None, web.clock.now(), by="test")
    verify = accounts._hasher.verify
    verified: list[str] = []

    class Counting:
        def verify(self, kept: str, password: str) -> bool:
            verified.append(kept)
            return verify(kept, password)

    monkeypatch.setattr(accounts, "_hasher", Counting())
    assert web.browser().post("/login", data={"name": name, "password": "x"}).status_code == 401
    assert len(verified) == 1


def test_a_name_that_is_not_known_is_not_written_down(web: WebSite) -> None:
    web.browser().post("/login", data={"name": "my-secret-password", "password": "x"})
    with web.database.read() as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
        assert event is not None
        assert event.data["user"] is None
        kept = session.scalars(select(LoginAttempt.name_hash)).all()
    assert "my-secret-password" not in "".join(kept)


def test_five_wrong_passwords_close_the_door_for_a_quarter_of_an_hour(
    web: WebSite, anna: str
) -> None:
    browser = web.browser()
    for _ in range(5):
        assert browser.post("/login", data={"name": anna, "password": "no"}).status_code == 401
    right = {"name": anna, "password": PASSWORD}
    assert browser.post("/login", data=right).status_code == 429
    assert _kinds(web)[-1] == "login_refused"
    web.clock.move(15 * 60 + 1)
    assert browser.post("/login", data=right).status_code == 303


def test_an_address_that_tries_many_names_is_refused(web: WebSite, anna: str) -> None:
    browser = web.browser()
    for number in range(20):
        browser.post("/login", data={"name": f"user{number}", "password": "no"})
    assert browser.post("/login", data={"name": anna, "password": PASSWORD}).status_code == 429


def test_the_session_ends_when_nobody_uses_it(web: WebSite) -> None:
    browser = web.logged_in(Role.VIEWER)
    for _ in range(3):
        web.clock.move(20 * 60)
        assert browser.get("/studies").status_code == 200
    web.clock.move(30 * 60)
    assert browser.get("/studies").headers["location"].startswith("/login")


def test_a_page_that_refreshes_itself_does_not_keep_the_session(web: WebSite) -> None:
    browser = web.logged_in(Role.VIEWER)
    for _ in range(6):
        web.clock.move(5 * 60)
        last = browser.get("/live/now")
    assert last.headers["location"].startswith("/login")


def test_log_out_ends_the_session_in_the_database(web: WebSite) -> None:
    browser = web.logged_in(Role.VIEWER)
    token = csrf_in(browser.get("/"))
    del browser.headers["x-csrf-token"]
    assert browser.post("/logout", data={"csrf_token": token}).status_code == 303
    with web.database.read() as session:
        assert session.scalars(select(WebSession)).all() == []
    assert _kinds(web)[-1] == "logout"


def test_another_password_ends_the_sessions(web: WebSite, anna: str) -> None:
    browser = web.browser()
    browser.post("/login", data={"name": anna, "password": PASSWORD})
    with web.database.write() as session:
        another = accounts.hash_password("quite another password")
        accounts.set_password(session, anna, another, web.clock.now(), by="test")
    assert browser.get("/").status_code == 303


def test_the_first_admin_is_made_by_a_token_that_works_once(web: WebSite) -> None:
    with web.database.write() as session:
        token = accounts.new_setup_token(session, web.clock.now())
    assert token is not None
    browser = web.browser()
    assert browser.get("/setup", params={"token": token}).status_code == 200
    form = {"token": token, "name": "anna", "password": PASSWORD, "again": PASSWORD}
    short = browser.post("/setup", data={**form, "password": "short", "again": "short"})
    assert (short.status_code, "5 characters" in short.text) == (422, True)
    assert browser.post("/setup", data=form).status_code == 303
    assert "admin" in browser.get("/").text
    again = web.browser().post("/setup", data={**form, "name": "mallory"})
    assert again.status_code == 422
    with web.database.read() as session:
        assert [line.name for line in accounts.listed(session)] == ["anna"]


def test_a_setup_token_is_good_for_a_day(web: WebSite) -> None:
    with web.database.write() as session:
        token = accounts.new_setup_token(session, web.clock.now())
    web.clock.move(24 * 3600)
    assert web.browser().get("/setup", params={"token": token or ""}).status_code == 403


def test_where_there_is_an_admin_no_token_makes_another(web: WebSite) -> None:
    web.logged_in(Role.ADMIN)
    with web.database.write() as session:
        assert accounts.new_setup_token(session, web.clock.now()) is None


def test_a_script_s_token_counts_for_the_api_until_it_is_revoked(web: WebSite) -> None:
    script = web.script(Role.VIEWER)
    assert script.get("/api/v1/now").status_code == 200
    assert script.get("/studies").status_code == 303
    with web.database.write() as session:
        (line,) = sessions.tokens(session)
        sessions.revoke_token(session, line.id, web.clock.now(), by="test")
    answer = script.get("/api/v1/now")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_token_may_do_no_more_than_its_user(web: WebSite) -> None:
    script = web.script(Role.OPERATOR)
    with web.database.write() as session:
        accounts.find(session, "the-operator").role = str(Role.VIEWER)
    answer = script.post("/api/v1/studies/1.2.3/hold", json={"reason": "x"})
    assert answer.status_code == 403
    assert _kinds(web)[-1] == "access_denied"
