"""What watches, beside the coordinator's own work and never in its way."""

from __future__ import annotations

import threading
from collections.abc import Callable

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.clock import Clock
from dicom_node.config import NodeConfig
from dicom_node.serve.alerting import Alerting
from dicom_node.serve.recurring import Recurring
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
        threads = len(config.alerts.channels) + 5
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(threads)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def start(self) -> None:
        """Begin; `stop` ends it."""
        alerts = self._config.alerts
        if self._repository is not None:
            # before the sealer: what this very start tells is to be sent, too
            self._repository.begin()
            self._every(1, "send_audit_messages", self._repository.send_audit_messages)
        self._every(1, "seal_audit_trail", self._sealer.seal_audit_trail)
        self._every(3600, "verify_audit_trail", self._sealer.verify_audit_trail)
        self._every(alerts.every_seconds, "watch_for_alerts", self._alerting.watch)
        if alerts.ask_peers_minutes:
            self._every(60 * alerts.ask_peers_minutes, "ask_peers", self._alerting.ask_peers)
        for name, send in self._alerting.senders().items():
            self._every(2, f"send_alerts_to_{name}", send)
        self._scheduler.start()

    def stop(self) -> None:
        self._stop.set()
        self._scheduler.shutdown(wait=True)

    def _every(self, seconds: float, name: str, work: Callable[[], object]) -> None:
        self._scheduler.add_job(Recurring(name, work), "interval", seconds=seconds, id=name)
