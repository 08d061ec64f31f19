"""The buttons of a study's page, and the same by the API: done and audited, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.model.access import Role
from dicom_node.store import held, withheld
from dicom_node.store.tables import AuditEvent, Study
from tests.unit.web.conftest import WebSite
from tests.unit.web.studies import came, settled


def _last(web: WebSite, kind: str) -> dict[str, Any]:
    with web.database.read() as session:
        event = session.scalars(
            select(AuditEvent).where(AuditEvent.kind == kind).order_by(AuditEvent.id.desc())
        ).first()
        assert event is not None, kind
        return dict(event.data)


def _held_text(web: WebSite, uid: str) -> str | None:
    with web.database.read() as session:
        return session.scalar(select(Study.held_text).where(Study.study_instance_uid == uid))


def test_a_study_is_put_aside_and_released_with_a_reason(web: WebSite) -> None:
    uid = settled(web)
    browser = web.logged_in(Role.OPERATOR)
    answer = browser.post(f"/studies/{uid}/hold", data={"reason": "the ward is asked"})
    assert answer.headers["location"] == f"/studies/{uid}"
    assert "held: study" in browser.get(f"/studies/{uid}").text
    assert _held_text(web, uid) == "put aside by the-operator: the ward is asked"
    with web.database.read() as session:
        # nothing of it goes out, either
        query = select(Study.id).where(Study.study_instance_uid == uid, withheld.is_current())
        assert session.scalar(query) is None
    browser.post(f"/studies/{uid}/release", data={"reason": "it is right"})
    assert _held_text(web, uid) is None
    event = _last(web, "study_released")
    assert (event["by"], event["reason"]) == ("the-operator", "it is right")


def test_without_a_reason_nothing_is_done(web: WebSite) -> None:
    uid = settled(web)
    browser = web.logged_in(Role.OPERATOR)
    browser.post(f"/studies/{uid}/hold", data={"reason": "  "})
    assert "Not done: it is missing" in browser.get(f"/studies/{uid}").text
    assert _held_text(web, uid) is None


def test_what_cannot_be_done_is_told_with_its_reason(web: WebSite) -> None:
    uid = came(web)
    browser = web.logged_in(Role.OPERATOR)
    browser.post(f"/studies/{uid}/release", data={"reason": "x"})
    assert "it is not held" in browser.get(f"/studies/{uid}").text
    answer = web.script(Role.OPERATOR).post(f"/api/v1/studies/{uid}/route", json={"reason": "x"})
    assert answer.status_code == 409
    assert answer.json()["why"] == "images of it still come"


def test_a_viewer_may_decide_nothing(web: WebSite) -> None:
    uid = settled(web)
    browser = web.logged_in(Role.VIEWER)
    assert "Quarantine" not in browser.get(f"/studies/{uid}").text
    assert browser.post(f"/studies/{uid}/hold", data={"reason": "x"}).status_code == 403
    assert _held_text(web, uid) is None
    assert _last(web, "access_denied")["by"] == "the-viewer"


@pytest.mark.parametrize("action", ["rerun", "resend"])
def test_there_is_nothing_to_do_again_before_the_first_time(web: WebSite, action: str) -> None:
    uid = settled(web)
    answer = web.script(Role.OPERATOR).post(f"/api/v1/studies/{uid}/{action}", json={"reason": "x"})
    assert answer.status_code == 409
    assert answer.json()["fix"]


def test_a_study_is_discarded_by_the_api(web: WebSite) -> None:
    uid = settled(web)
    script = web.script(Role.OPERATOR)
    answer = script.post(f"/api/v1/studies/{uid}/discard", json={"reason": "a test image"})
    assert answer.json() == {"done": [f"discarded: study {uid}; 0 jobs and deliveries given up"]}
    with web.database.read() as session:
        assert held.find(session, uid).unrouted_reason is not None


def test_an_action_that_does_not_exist_is_not_there(web: WebSite) -> None:
    uid = settled(web)
    browser = web.logged_in(Role.OPERATOR)
    assert browser.post(f"/studies/{uid}/explode", data={"reason": "x"}).status_code == 404
