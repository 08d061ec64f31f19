"""An alert is told once, again after a time, and when it is over; a restart changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.alerts import Condition, Notice, book
from dicom_node.config.watching import AlertsSection
from dicom_node.model.alerts import AlertRule, Change, MessageState, Severity
from dicom_node.store.alerts import alerts, alerts_firing, channel_lines
from dicom_node.store.database import Database
from dicom_node.store.watch_tables import AlertMessage
from tests.factories import ManualClock

DOWN = Condition(AlertRule.PEER_DOWN, "pacs", "Peer pacs does not answer.", "see to it")
FULL = Condition(AlertRule.DISK_FULL, "", "The disk is full.", "free space")
CHANNELS = {"duty": {"syslog": "siem"}, "team": {"webhook": "https://chat.example/x"}}

Look = Callable[..., list[Change]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def look(database: Database, clock: ManualClock) -> Look:
    def look(*found: Condition, after: float = 0, **section: Any) -> list[Change]:
        """Move the clock by minutes and look; returns what was told."""
        clock.move(60 * after)
        with database.write() as session:
            told = book.update(
                session,
                found,
                AlertsSection.model_validate({"channels": CHANNELS, **section}),
                "AINODE",
                clock.now(),
            )
        return [notice.change for notice in told]

    return look


def waiting(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as session:
        rows = session.execute(
            select(AlertMessage.channel, AlertMessage.body)
            .where(AlertMessage.state == MessageState.WAITING)
            .order_by(AlertMessage.id)
        )
        return [(channel, body["rule"], body["change"]) for channel, body in rows]


def test_a_condition_has_to_hold_for_its_time(look: Look, database: Database) -> None:
    assert look(DOWN) == []
    assert look(DOWN, after=9) == []
    with database.read() as session:
        assert alerts_firing(session) == []
    assert look(DOWN, after=1) == [Change.FIRING]
    with database.read() as session:
        (line,) = alerts_firing(session)
    assert (line.rule, line.subject, line.text) == ("peer_down", "pacs", DOWN.text)
    assert waiting(database) == [
        ("duty", "peer_down", "firing"),
        ("team", "peer_down", "firing"),
    ]


def test_a_condition_that_ends_in_time_is_never_told(look: Look, database: Database) -> None:
    assert [look(DOWN), look(after=5), look(DOWN, after=1), look(DOWN, after=6)] == [[]] * 4
    with database.read() as session:
        assert [line.state for line in alerts(session)] == ["pending"]


def test_it_is_told_once_and_again_after_a_day(look: Look) -> None:
    assert look(FULL) == [Change.FIRING]
    assert [look(FULL, after=60) for _ in range(23)] == [[]] * 23
    assert look(FULL, after=60) == [Change.STILL]
    assert look(FULL, after=60) == []


def test_what_is_never_to_be_repeated_is_not(look: Look) -> None:
    rules = {"disk_full": {"repeat_hours": 0}}
    assert look(FULL, rules=rules) == [Change.FIRING]
    assert look(FULL, after=60 * 24 * 30, rules=rules) == []


def test_recovery_is_told_once_and_a_new_outbreak_is_new(look: Look, database: Database) -> None:
    assert [look(FULL), look(), look(), look(FULL)] == [
        [Change.FIRING],
        [Change.RECOVERED],
        [],
        [Change.FIRING],
    ]
    assert [change for _, _, change in waiting(database)][::2] == [
        "firing",
        "recovered",
        "firing",
    ]


def test_one_that_comes_and_goes_is_told_once(look: Look) -> None:
    look(DOWN)
    assert look(DOWN, after=10) == [Change.FIRING]
    for _ in range(10):
        assert look(after=2) == []
        assert look(DOWN, after=2) == []
    assert look(after=1) == []
    assert look(after=10) == [Change.RECOVERED]


def test_a_restart_tells_nothing_again(look: Look, database: Database) -> None:
    look(FULL)
    again = Database(database.url)
    with again.write() as session:
        section = AlertsSection.model_validate({"channels": CHANNELS})
        assert book.update(session, [FULL], section, "AINODE", ManualClock().now()) == []
    again.close()


def test_a_rule_may_have_channels_of_its_own(look: Look, database: Database) -> None:
    look(FULL, rules={"disk_full": {"send_to": "team"}})
    assert waiting(database) == [("team", "disk_full", "firing")]


def test_a_rule_that_is_turned_off_says_no_more(look: Look, database: Database) -> None:
    look(FULL)
    assert look(rules={"disk_full": {"enabled": False}}) == []
    with database.read() as session:
        assert alerts(session) == []


def test_the_gravest_stands_first(look: Look, database: Database) -> None:
    held = Condition(AlertRule.FILES_ASIDE, "", "One file.", "look")
    look(held)
    look(held, FULL, after=1)
    with database.read() as session:
        assert [line.rule for line in alerts_firing(session)] == ["disk_full", "files_aside"]


def test_a_channel_that_refuses_is_tried_later_and_later_and_given_up_after_a_day(
    look: Look, database: Database, clock: ManualClock
) -> None:
    look(FULL, rules={"disk_full": {"send_to": "team"}})
    waits = []
    for _ in range(100):
        with database.write() as session:
            row = book.due(session, "team", clock.now())
            if row is None:
                break
            kept = book.mark_failed(session, row.id, "it does not answer", clock.now())
            waits.append((row.not_before - clock.now()).total_seconds())
            last, row_id = kept, row.id
        if not last:
            break
        with database.read() as session:
            assert book.due(session, "team", clock.now()) is None
            assert channel_lines(session)[0].trouble == "it does not answer"
        clock.move(waits[-1])
    assert waits[:4] == [30, 60, 120, 240]
    assert max(waits) == 1800
    assert last is False
    assert row_id == 1
    with database.read() as session:
        assert channel_lines(session)[0].given_up == 1


def test_old_messages_and_alerts_that_are_over_are_forgotten(
    look: Look, database: Database, clock: ManualClock
) -> None:
    look(FULL, rules={"disk_full": {"send_to": "team"}})
    look(rules={"disk_full": {"send_to": "team"}})
    with database.write() as session:
        for row in session.scalars(select(AlertMessage)):
            book.mark_sent(session, row.id, clock.now())
        book.forget(session, clock.now() + timedelta(seconds=1))
    with database.read() as session:
        assert alerts(session) == []
        assert channel_lines(session) == []


def test_a_message_survives_the_database_as_it_was(clock: ManualClock) -> None:
    made = Notice(
        "A",
        "clock",
        "set",
        Change.STILL,
        Severity.WARNING,
        "The clock was set.",
        "see to it",
        clock.now(),
    )
    assert Notice.of_plain(made.plain()) == made


def test_an_alert_of_a_clock_ahead_fires_when_the_clock_was_put_back(look: Look) -> None:
    look(DOWN, after=60 * 24)
    assert look(DOWN, after=-60 * 24) == []
    assert look(DOWN, after=10) == [Change.FIRING]


def test_an_alert_told_by_a_clock_ahead_is_repeated_and_recovers(look: Look) -> None:
    look(DOWN, after=60 * 48)
    assert look(DOWN, after=10) == [Change.FIRING]
    assert look(DOWN, after=-60 * 48) == []
    assert look(DOWN, after=60 * 24) == [Change.STILL]
    assert look(after=60 * 48) == []
    assert look(after=-60 * 48) == []
    assert look(after=10) == [Change.RECOVERED]


def test_what_waits_for_a_channel_that_is_gone_is_given_up(
    look: Look, database: Database, clock: ManualClock
) -> None:
    look(FULL)
    look(FULL, channels={"duty": CHANNELS["duty"]})
    assert [channel for channel, _, _ in waiting(database)] == ["duty"]
    with database.read() as session:
        (_, team) = channel_lines(session)
        row = session.scalars(select(AlertMessage).filter_by(channel="team")).one()
        assert (row.state, row.ended_at) == (MessageState.GIVEN_UP, clock.now())
        assert "no such channel" in (row.trouble or "")
    assert (team.channel, team.waiting, team.given_up) == ("team", 0, 1)
