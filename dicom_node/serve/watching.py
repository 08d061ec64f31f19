"""What watches, beside the coordinator's own work and never in its way."""

from __future__ import annotations

import threading

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.serve.alerting import Alerting
from dicom_node.serve.recurring import Timetable
from dicom_node.serve.repository import RepositorySender
from dicom_node.serve.sealing import Sealer
from dicom_node.store.database import Database


class Watching:
    """Seals the audit trail, sends audit messages, looks at the alerts and sends them.

    It has threads of its own: a mail server that hangs holds up its channel and nothing else.
    """

    def __init__(self, config: NodeConfig, database: Database, clock: Clock) -> None:
        self._config = config
        self._sealer = Sealer(config, database, clock)
        self._stop = threading.Event()
        self._alerting = Alerting(config, database, clock, self._sealer.broken, stop=self._stop)
        self._repository = (
            RepositorySender(config, config.audit, database, clock) if config.audit else None
        )
        # one for each channel, one for each of the others
        self._timetable = Timetable(threads=len(config.alerts.channels) + 5)

    def start(self) -> None:
        """Begin; `stop` ends it."""
        alerts, every = self._config.alerts, self._timetable.every
        if self._repository is not None:
            # before the sealer: what this very start tells is to be sent, too
            self._repository.begin()
            every(1, self._repository.send_audit_messages)
        every(1, self._sealer.seal_audit_trail)
        every(3600, self._sealer.verify_audit_trail)
        every(alerts.every_seconds, self._alerting.watch, "watch_for_alerts")
        if alerts.ask_peers_minutes:
            every(60 * alerts.ask_peers_minutes, self._alerting.ask_peers)
        for name, send in self._alerting.senders().items():
            every(2, send, f"send_alerts_to_{name}")
        self._timetable.start()

    def keep_time(self) -> None:
        """See whether the clock was put back (`Timetable.keep_time`)."""
        self._timetable.keep_time()

    def stop(self) -> None:
        self._stop.set()
        self._timetable.stop()
