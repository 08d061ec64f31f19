"""Alerts from the look at the rules to the channel, with a channel that fails in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.alerts import Notice
from dicom_node.config import NodeConfig
from dicom_node.demo.ports import free_port
from dicom_node.errors import NodeError
from dicom_node.model.alerts import Change
from dicom_node.serve.alerting import Alerting
from dicom_node.serve.watching import Watching
from dicom_node.store import fitness, looks
from dicom_node.store.alerts import alerts_firing, channel_lines
from dicom_node.store.database import Database
from dicom_node.store.watch_tables import AlertMessage
from tests.factories import ManualClock
from tests.peers.listening import web_hook
from tests.peers.ports import wait_for
from tests.unit.serve.small_node import config_in

Disable = Callable[[bool], None]


class Scripted:
    """A channel that takes what it is told to take."""

    def __init__(self) -> None:
        self.works = True
        self.taken: list[Notice] = []

    def send(self, notice: Notice) -> None:
        if not self.works:
            raise NodeError("scripted channel", "it is off", "turn it on")
        self.taken.append(notice)


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return config_in(tmp_path, alerts={"channels": {"team": {"webhook": "http://127.0.0.1/x"}}})


@pytest.fixture
def disable(database: Database, clock: ManualClock) -> Disable:
    """Make something wrong: a pipeline that does not pass its self-test."""

    def disable(wrong: bool) -> None:
        with database.write() as session:
            fitness.record(session, "tiny", "1", "", ["differs"] if wrong else [], clock.now())

    return disable


def test_an_alert_reaches_its_channel_once_and_its_end_too(
    config: NodeConfig, database: Database, clock: ManualClock, disable: Disable
) -> None:
    channel = Scripted()
    alerting = Alerting(config, database, clock, channels={"team": channel})
    (send,) = alerting.senders().values()
    assert alerting.watch() == []
    disable(True)
    for _ in range(3):
        alerting.watch()
        send()
    assert [(n.rule, n.subject, n.node) for n in channel.taken] == [
        ("pipeline_disabled", "tiny", "AINODE")
    ]
    disable(False)
    alerting.watch()
    send()
    assert [notice.change for notice in channel.taken] == [Change.FIRING, Change.RECOVERED]


def test_what_a_channel_does_not_take_waits_and_is_shown(
    config: NodeConfig, database: Database, clock: ManualClock, disable: Disable
) -> None:
    channel = Scripted()
    alerting = Alerting(config, database, clock, channels={"team": channel})
    (send,) = alerting.senders().values()
    channel.works = False
    disable(True)
    alerting.watch()
    send()
    send()
    with database.read() as session:
        (line,) = channel_lines(session)
        attempts = session.scalars(select(AlertMessage.attempts)).all()
    assert (line.waiting, line.trouble) == (1, "scripted channel: it is off")
    assert list(attempts) == [1], "it is not tried again at once"
    channel.works = True
    # another process goes on: what waits is in the database
    again = Alerting(config, database, clock, channels={"team": channel})
    clock.move(31)
    (send,) = again.senders().values()
    send()
    assert len(channel.taken) == 1


def test_peers_that_get_reports_are_asked(
    tmp_path: Path, database: Database, clock: ManualClock
) -> None:
    peer = {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    xray = {"ae_title": "XRAY", "host": "127.0.0.1", "port": 104}
    config = config_in(tmp_path, peers={"pacs": peer, "xray": xray})
    stop = threading.Event()
    alerting = Alerting(config, database, clock, stop=stop)
    alerting.ask_peers()
    with database.read() as session:
        known = looks.peer_looks(session)
    assert set(known) == {"pacs"}, "a modality need not answer"
    assert "the connection failed" in (known["pacs"].trouble or "")
    stop.set()
    clock.move(60)
    alerting.ask_peers()
    with database.read() as session:
        assert looks.peer_looks(session) == known, "nothing is begun when it is to end"


def test_a_channel_that_hangs_holds_up_nothing_else(
    tmp_path: Path, database: Database, clock: ManualClock, disable: Disable
) -> None:
    disable(True)
    hanging = threading.Event()
    with web_hook() as hook:
        sections: dict[str, Any] = {
            "slow": {"webhook": "http://127.0.0.1/x"},
            "team": {"webhook": hook.url, "style": "plain"},
        }
        alerts = {"every_seconds": 0.1, "ask_peers_minutes": 0, "channels": sections}
        config = config_in(tmp_path, alerts=alerts)
        watching = Watching(config, database, clock)

        class Hangs:
            def send(self, notice: Notice) -> None:
                hanging.wait(120)

        watching._alerting._channels["slow"] = Hangs()  # type: ignore[index]
        watching.start()
        try:
            wait_for("the other channel", lambda: hook.posts, 60)
            disable(False)
            wait_for("its next message", lambda: len(hook.posts) == 2, 60)
        finally:
            hanging.set()
            watching.stop()
    with database.read() as session:
        assert alerts_firing(session) == []
    assert [body["change"] for _, _, body in hook.posts] == ["firing", "recovered"]
