"""Alerts in the coordinator: look at the rules, ask the peers, and send what waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from dicom_node.alerts import Channel, Notice, Seen, book, channel_of, conditions
from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.delivery import ScuSettings, destination_for
from dicom_node.errors import NodeError
from dicom_node.logs import error_facts
from dicom_node.model.alerts import AlertRule, Change
from dicom_node.serve.disk import DiskLevel, disk_state
from dicom_node.serve.measure import ClockWatch, FileWatch, certificate_ends, roles_down
from dicom_node.serve.peer_care import certificate_end_of
from dicom_node.store import hosts, looks
from dicom_node.store.database import Database

_log = structlog.get_logger()

_KEPT: Final = timedelta(days=30)
"""How long messages that were sent and alerts that are over are kept."""
_AT_ONCE: Final = 20
_LEVELS: Final = [str(level) for level in (DiskLevel.OK, DiskLevel.LOW, DiskLevel.FULL)]


class Alerting:
    """Watches, and tells the channels of node.yaml.

    Args:
        audit_broken: Says what is wrong with the audit trail's chain, or "".
        channels: Instead of those of node.yaml.
        stop: Set when nothing more is to be begun.
    """

    def __init__(
        self,
        config: NodeConfig,
        database: Database,
        clock: Clock,
        audit_broken: Callable[[], str] = str,
        channels: Mapping[str, Channel] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._config = config
        self._database = database
        self._clock = clock
        self._audit_broken = audit_broken
        self._clock_watch = ClockWatch(clock, config.alerts.limit(AlertRule.CLOCK))
        self._files = FileWatch(config, database)
        self._channels = (
            {name: channel_of(section) for name, section in config.alerts.channels.items()}
            if channels is None
            else channels
        )

    def watch(self) -> list[Notice]:
        """Look at every rule once; returns the messages that followed."""
        now = self._clock.now()
        seen = replace(
            self._here() if self._config.hosts is None else self._at_hosts(now),
            clock_jump=self._clock_watch.look(),
            certificates=certificate_ends(self._config),
            audit_broken=self._audit_broken(),
        )
        with self._database.read() as session:
            found = conditions(session, self._config, seen, now)
        node = self._config.node.ae_title[0]
        with self._database.write() as session:
            told = book.update(session, found, self._config.alerts, node, now)
            book.forget(session, now - _KEPT)
        for notice in told:
            _tell(notice)
        return told

    def _here(self) -> Seen:
        disk = disk_state(self._config)
        return Seen(
            disk=str(disk.level),
            disk_text=disk.seen,
            roles_down=roles_down(self._config),
            files_missing=self._files.look(),
        )

    def _at_hosts(self, now: datetime) -> Seen:
        """What the hosts say that each have a data folder; one that is away says nothing."""
        with self._database.read() as session:
            there = [host for host in hosts.lines(session) if not host.is_away(now)]
        worst = max((host.state.disk for host in there), key=_LEVELS.index, default=_LEVELS[0])
        texts = [f"{h.name}: {h.state.disk_text}" for h in there if h.state.disk == worst]
        return Seen(
            disk=worst,
            disk_text="; ".join(texts),
            roles_down=[f"{role} of {h.name}" for h in there for role in h.state.roles_down],
            files_missing=sum(host.state.missing for host in there),
        )

    def ask_peers(self) -> None:
        """Ask the peers that get reports whether they are there, one after another."""
        scu = ScuSettings(
            self._config.node.ae_title[0], connect_timeout=5, acse_timeout=5, dimse_timeout=5
        )
        receivers = {name for route in self._config.routes for name in route.send_to}
        for name in sorted(receivers):
            if self._stop.is_set():
                return
            peer = self._config.peers[name]
            try:
                why = destination_for(scu, peer).check()
            except NodeError as error:  # a certificate or secret file of ours
                why = f"{error.what}: {error.why}"
            ends = certificate_end_of(peer)
            with self._database.write() as session:
                looks.note_look(session, name, why, self._clock.now(), ends)

    def senders(self) -> dict[str, Callable[[], None]]:
        """Return what sends the messages of each channel, each to be called again and again."""
        return {
            name: partial(self._send_waiting, name, channel)
            for name, channel in self._channels.items()
        }

    def _send_waiting(self, name: str, channel: Channel) -> None:
        """Send what waits for a channel, the oldest first, up to the first that is not taken."""
        for _ in range(_AT_ONCE):
            if self._stop.is_set():
                return
            with self._database.read() as session:
                row = book.due(session, name, self._clock.now())
            if row is None:
                return
            try:
                channel.send(Notice.of_plain(row.body))
            except NodeError as error:
                with self._database.write() as session:
                    again = book.mark_failed(
                        session, row.id, f"{error.what}: {error.why}", self._clock.now()
                    )
                event = "alert_not_sent" if again else "alert_given_up"
                _log.error(event, channel=name, rule=row.body["rule"], **error_facts(error))
                return
            with self._database.write() as session:
                book.mark_sent(session, row.id, self._clock.now())
            _log.info("alert_sent", channel=name, rule=row.body["rule"])


def _tell(notice: Notice) -> None:
    event = "alert_recovered" if notice.change is Change.RECOVERED else "alert_firing"
    tell = _log.info if notice.change is Change.RECOVERED else _log.warning
    tell(event, rule=notice.rule, subject=notice.subject, text=notice.text, fix=notice.fix)
