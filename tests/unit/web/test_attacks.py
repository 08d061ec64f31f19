"""What an attacker would try, and what it gets; docs/security.md lists the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.model.access import Role
from dicom_node.store.tables import Job
from tests.factories import report_row
from tests.unit.web.conftest import WebSite
from tests.unit.web.studies import came, settled

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "AccessionNumber", "Modality"])
def test_a_script_in_a_header_is_shown_as_text(web: WebSite, keyword: str) -> None:
    uid = came(web, 1, **{keyword: SCRIPT, "StudyDescription": SCRIPT, "SeriesDescription": SCRIPT})
    browser = web.logged_in(Role.OPERATOR)
    for path in ("/studies", f"/studies/{uid}"):
        text = browser.get(path).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text


def test_a_script_as_ae_title_is_shown_as_text(web: WebSite) -> None:
    came(web, 1, sender="<img src=x>")
    text = web.logged_in(Role.OPERATOR).get("/studies").text
    assert "<img src=x>" not in text
    assert "&lt;img src=x&gt;" in text


def test_a_script_in_a_reason_or_a_flash_is_shown_as_text(web: WebSite) -> None:
    uid = settled(web)
    browser = web.logged_in(Role.OPERATOR)
    browser.post(f"/studies/{uid}/hold", data={"reason": SCRIPT})
    assert "<script>alert" not in browser.get(f"/studies/{uid}").text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(web: WebSite, headers: dict[str, str]) -> None:
    uid = settled(web)
    browser = web.logged_in(Role.OPERATOR)
    answer = browser.post(f"/studies/{uid}/hold", data={"reason": "x"}, headers=headers)
    assert answer.status_code == 403
    assert browser.post("/login", data={"name": "x"}, headers=headers).status_code == 403


def test_the_token_of_another_session_does_not_count(web: WebSite) -> None:
    uid = settled(web)
    mine, other = web.logged_in(Role.OPERATOR), web.logged_in(Role.ADMIN)
    mine.headers["x-csrf-token"] = other.headers["x-csrf-token"]
    assert mine.post(f"/studies/{uid}/hold", data={"reason": "x"}).status_code == 403


def test_a_session_that_is_made_up_is_nobodys(web: WebSite) -> None:
    browser = web.browser()
    browser.cookies.set("dicom_node_session", "' OR 1=1 --")
    assert browser.get("/").status_code == 303
    browser.headers["Authorization"] = "Bearer ' OR 1=1 --"
    assert browser.get("/api/v1/now").status_code == 401


def test_a_name_that_somebodys_dns_points_here_is_refused(web: WebSite) -> None:
    browser = web.logged_in()
    assert browser.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert browser.get("/", headers={"Host": "192.168.1.5:8080"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2f..%2fpyproject.toml",
        "/static//etc/passwd",
        "/studies/..%2f..%2fetc%2fpasswd",
        "/studies/1.2.3/objects/..%2f1/picture.png",
    ],
)
def test_a_path_out_of_the_folder_leads_nowhere(web: WebSite, path: str) -> None:
    answer = web.logged_in().get(path)
    assert answer.status_code in (404, 422)
    assert "import" not in answer.text


def test_an_object_outside_the_folder_of_reports_is_not_shown(web: WebSite, tmp_path: Path) -> None:
    uid = settled(web)
    (tmp_path / "secret.dcm").write_bytes(b"secret")
    now = web.clock.now()
    with web.database.write() as session:
        job = Job(
            study_id=1,
            pipeline="p",
            version="1",
            input_key="k",
            state="done",
            inputs=[],
            peers=[],
            reason="",
            queued_at=now,
        )
        session.add(job)
        session.flush()
        number = report_row(session, job.id, now, kind="SC", path="../../secret.dcm").id
    answer = web.logged_in().get(f"/studies/{uid}/objects/{number}/picture.png")
    assert answer.status_code == 404


def test_an_object_of_another_study_is_not_shown(web: WebSite) -> None:
    first, _ = settled(web, 1), settled(web, 2)
    answer = web.logged_in().get(f"/studies/{first}/objects/99/picture.png")
    assert answer.status_code == 404


def test_more_than_a_form_holds_is_refused_unread(web: WebSite) -> None:
    browser = web.logged_in(Role.OPERATOR)
    announced = browser.post("/studies", content=b"x" * (1024 * 1024 + 1))
    assert announced.status_code == 413

    def parts() -> object:
        for _ in range(40):
            yield b"x" * 65536

    # without an announced length it is cut off
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.post("/studies", content=parts(), headers=kind).status_code >= 400


def test_an_error_page_tells_nothing_of_ours(web: WebSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("patient Featherstone")

    monkeypatch.setattr("dicom_node.store.search.find", broken)
    for path in ("/studies", "/api/v1/studies"):
        answer = web.logged_in().get(path)
        assert answer.status_code == 500
        assert "Featherstone" not in answer.text
        assert "Traceback" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_words_that_are_sql_find_nothing_and_break_nothing(web: WebSite) -> None:
    came(web, 1)
    browser = web.logged_in(Role.OPERATOR)
    for text in ("' OR '1'='1", "%", "_", "\\", "\x00", "a" * 200):
        answer = browser.post("/studies", data={"text": text})
        assert answer.status_code == 303
        found = browser.get(answer.headers["location"])
        assert found.status_code == 200
        # what holds no word at all narrows nothing
        assert found.text.count("row-link") == (0 if text.strip("\x00\\") else 1), text


@pytest.mark.parametrize("page", ["/studies", "/api/v1/studies"])
def test_our_own_mistake_tells_the_caller_nothing_and_the_log_its_place(
    web: WebSite, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    def mistaken(*_: object, **__: object) -> None:
        raise RuntimeError("DOE^JANE is not a number")

    monkeypatch.setattr("dicom_node.store.search.find", mistaken)
    browser = web.script() if page.startswith("/api") else web.logged_in()
    with capture_logs() as logs:
        answer = browser.get(page)
    assert answer.status_code == 500
    assert "page_failed" in answer.text
    (line,) = [line for line in logs if line["event"] == "page_failed"]
    assert line["page"] == page
    assert "RuntimeError" in str(line)
    assert "DOE" not in answer.text + str(logs)
