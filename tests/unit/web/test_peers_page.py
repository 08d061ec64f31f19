"""Peers: whether they answer, who was not let in, and adding one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.config import load_config
from dicom_node.delivery import CStore
from dicom_node.model.access import Role
from dicom_node.store import audit
from tests.unit.web.conftest import WebSite


@pytest.fixture
def rejected(web: WebSite) -> WebSite:
    """A site that an unknown CT called three times, and a known one by a wrong title of ours."""
    with web.database.write() as session:
        for title, called, hours in (
            ("CT<2>", "AINODE", 1),
            ("CT<2>", "AINODE", 2),
            ("XR", "X", 3),
        ):
            audit.record(
                session,
                web.clock.now() - timedelta(hours=hours),
                "association_rejected",
                peer=title,
                called_ae=called,
                address="10.0.0.9",
                reason="calling AE title not recognised",
            )
        audit.record(
            session,
            web.clock.now() - timedelta(days=9),
            "association_rejected",
            peer="OLD",
            called_ae="AINODE",
            address="10.0.0.8",
            reason="calling AE title not recognised",
        )
    return web


def test_an_echo_is_asked_told_and_remembered(
    web: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = web.logged_in(Role.OPERATOR)
    monkeypatch.setattr(CStore, "check", lambda self: "connection refused")
    assert operator.post("/peers/pacs/echo").status_code == 303
    page = operator.get("/peers").text
    assert "pacs does not answer: connection refused" in page
    monkeypatch.setattr(CStore, "check", lambda self: None)
    answer = web.script(Role.OPERATOR).post("/api/v1/peers/pacs/echo").json()
    assert (answer["peer"], answer["trouble"]) == ("pacs", None)
    (pacs, xray) = web.script(Role.VIEWER).get("/api/v1/peers").json()
    assert pacs["trouble"] is None
    assert pacs["asked_at"] is not None
    assert pacs["roles"] == ["sends", "receives"]
    assert (xray["asked_at"], xray["roles"]) == (None, ["sends"])


def test_a_peer_that_is_not_there_is_said(web: WebSite) -> None:
    assert web.logged_in().post("/peers/nobody/echo").status_code == 404
    assert web.script().post("/api/v1/peers/nobody/echo").status_code == 404


def test_unknown_callers_can_be_added_and_known_ones_not(rejected: WebSite) -> None:
    page = rejected.logged_in().get("/peers").text
    assert "CT&lt;2&gt;" in page
    assert "2, last" in page
    assert page.count("Add this peer") == 1
    assert "/peers/add?ae_title=CT%3C2%3E&amp;host=10.0.0.9" in page
    assert "OLD" not in page
    callers = rejected.script(Role.VIEWER).get("/api/v1/callers").json()
    assert [(line["calling_ae"], line["is_unknown"], line["times"]) for line in callers] == [
        ("CT<2>", True, 2),
        ("XR", False, 1),
    ]
    assert "Add this peer" not in rejected.logged_in(Role.VIEWER).get("/peers").text


def test_a_peer_is_added_through_the_difference_with_comments_kept(web: WebSite) -> None:
    file = web.context.config_file
    file.write_text("# ours\n" + file.read_text())
    admin = web.logged_in()
    form = admin.get("/peers/add", params={"ae_title": "CT 2", "host": "10.0.0.9"}).text
    assert 'value="ct-2"' in form
    peer = {"name": "ct-2", "ae_title": "CT 2", "host": "10.0.0.9", "port": "105", "accept": "true"}
    compared = admin.post("/peers/add", data=peer)
    assert compared.status_code == 200, compared.text
    assert "+  ct-2: {ae_title: &#34;CT 2&#34;, host: 10.0.0.9, port: 105}" in compared.text
    assert "ct-2" not in file.read_text()
    base = compared.text.split('name="base" value="')[1][:64]
    text = web_text(compared.text)
    applied = admin.post("/routes/apply", data={"text": text, "base": base, "why": "second CT"})
    assert applied.status_code == 303
    assert file.read_text().startswith("# ours\n")
    config = load_config(file)
    assert config.senders["ct-2"].port == 105
    assert "ct-2" in admin.get("/peers").text


def web_text(page: str) -> str:
    """The text that a proposal carries."""
    import html

    return html.unescape(page.split('name="text" value="')[1].split('">')[0])


def test_a_name_that_is_taken_is_said(web: WebSite) -> None:
    peer = {"name": "pacs", "ae_title": "X", "host": "h"}
    answer = web.logged_in().post("/peers/add", data=peer)
    assert answer.status_code == 422
    assert "of that name" in answer.text
