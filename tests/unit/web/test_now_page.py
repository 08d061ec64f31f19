"""The first page: what needs a person, and that it keeps itself up to date."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import timedelta
from typing import Any

from dicom_node.model.access import Role
from dicom_node.model.alerts import AlertRule, AlertState, Severity
from dicom_node.model.states import HoldReason
from dicom_node.store import audit, fitness, held
from dicom_node.store.activity import DAY, HOUR, activity
from dicom_node.store.tables import Job
from dicom_node.store.watch_tables import Alert
from dicom_node.web.now import Lookout, _events
from tests.unit.web.conftest import WebSite
from tests.unit.web.studies import came, settled


def _hold(web: WebSite, uid: str, text: str) -> None:
    with web.database.write() as session:
        study = held.find(session, uid)
        held.hold(session, study, HoldReason.BY_PERSON, text, web.clock.now())


def test_a_held_study_stands_on_top_with_the_way_to_it(web: WebSite) -> None:
    uid = settled(web)
    _hold(web, uid, "another patient")
    text = web.logged_in(Role.VIEWER).get("/").text
    assert "another patient" in text
    assert f'href="/studies/{uid}"' in text
    needs = web.script(Role.VIEWER).get("/api/v1/now").json()["situation"]["needs"]
    assert any(need["title"] == "A study is held" for need in needs)


def test_a_node_that_does_not_run_is_told(web: WebSite) -> None:
    assert "No worker runs" in web.logged_in(Role.VIEWER).get("/").text


def test_an_alert_is_told_unless_its_cause_is_told_anyway(web: WebSite) -> None:
    now = web.clock.now()
    with web.database.write() as session:
        for rule in (AlertRule.CLOCK, AlertRule.PIPELINE_DISABLED):
            session.add(
                Alert(
                    rule=rule,
                    subject="kl",
                    state=AlertState.FIRING,
                    severity=Severity.CRITICAL,
                    text=f"what {rule} says",
                    fix="",
                    since=now,
                )
            )
        fitness.record(session, "kl", "1", "ab", ["probability 0.1 is 0.3"], now)
    text = web.logged_in(Role.VIEWER).get("/").text
    assert "Alert: clock" in text
    assert "what clock says" in text
    assert "kl is disabled: its self-test differs" in text
    assert "what pipeline_disabled says" not in text


def test_callers_that_were_refused_are_told(web: WebSite) -> None:
    with web.database.write() as session:
        audit.record(
            session,
            web.clock.now(),
            "association_rejected",
            peer="BADGUY",
            address="10.0.0.9",
            reason="calling AE title not recognised",
        )
    text = web.logged_in(Role.VIEWER).get("/").text
    assert "BADGUY 10.0.0.9 was refused once today" in text


def test_what_happened_is_counted_in_the_part_of_the_hour_that_it_was_in(web: WebSite) -> None:
    came(web, 1)
    web.clock.move(20 * 60)
    came(web, 2)
    web.clock.move(60)
    with web.database.read() as session:
        hour = activity(session, web.clock.now(), HOUR)
        day = activity(session, web.clock.now(), DAY)
    assert hour.received == (0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1)
    assert sum(day.received) == 2
    assert hour.failed == (0,) * 12


def test_a_failed_job_is_counted_and_told(web: WebSite) -> None:
    settled(web)
    now = web.clock.now()
    with web.database.write() as session:
        session.add(
            Job(
                study_id=1,
                pipeline="knee",
                version="1",
                input_key="k",
                state="failed",
                inputs=[],
                peers=[],
                reason="",
                queued_at=now,
                finished_at=now - timedelta(minutes=3),
                error={"what": "knee", "why": "out of memory", "fix": "give it more"},
            )
        )
    text = web.logged_in(Role.VIEWER).get("/").text
    assert "A job has failed" in text
    assert "give it more" in text
    assert 'aria-label="Failed in the last hour: 1, at most 1 in one 5 minutes"' in text


def test_an_open_page_is_told_of_a_change_and_ends_with_the_process(web: WebSite) -> None:
    uid = settled(web)
    browser = web.logged_in(Role.VIEWER)
    lookout = Lookout(web.context)
    events: list[dict[str, Any]] = []

    async def listen() -> None:
        async for text in _events(_Request(browser), web.context, lookout):  # type: ignore[arg-type]
            if text.startswith("event: now"):
                events.append(json.loads(text.partition("data: ")[2]))
                if len(events) == 1:
                    web.clock.move(3)
                    _hold(web, uid, "another patient")
                else:
                    web.context.stop.set()

    ended = threading.Event()

    def run() -> None:
        asyncio.run(listen())
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(30)
    assert events[1]["key"] != events[0]["key"]
    assert events[1]["needs"] == events[0]["needs"] + 1
    assert lookout.streams == 0


class _Request:
    """What the stream asks of its request, which is nothing before half a minute."""

    def __init__(self, browser: object) -> None:
        self.browser = browser
