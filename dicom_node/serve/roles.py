"""Each role as a process of its own: receiver, coordinator, worker; and all under one roof."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig, load_config
from dicom_node.errors import ConfigError
from dicom_node.inference.bundles import Bundle, find_bundles
from dicom_node.logs import set_up_logging
from dicom_node.serve.supervisor import Supervisor, stop_with_parent
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool

_log = structlog.get_logger()


def bundles_of(config: NodeConfig) -> Mapping[str, Bundle]:
    """Find the pipelines that a configuration may run, a site's own weights put in."""
    weights = {
        name: section.weights for name, section in config.pipelines.items() if section.weights
    }
    return find_bundles(config.pipelines_path, weights=weights)


def load_all(config_file: Path) -> tuple[NodeConfig, Mapping[str, Bundle]]:
    """Load `node.yaml` and the pipelines it names.

    Raises:
        ConfigError: Either is wrong.
    """
    config = load_config(config_file)
    bundles = bundles_of(config)
    return load_config(config_file, bundles), bundles


def serve(config_file: Path) -> int:
    """Run every role, each in its own process, until SIGTERM or SIGINT."""
    set_up_logging("supervisor")
    load_all(config_file)
    supervisor = Supervisor(list(ROLES), config_file)
    stop_with_parent(supervisor.stop)
    return supervisor.run()


def serve_role(config_file: Path, role: str) -> int:
    """Run one role in this process until SIGTERM, SIGINT or the supervisor's end."""
    if role not in ROLES:
        raise ConfigError(f"role {role}", "there is none", f"roles are: {', '.join(ROLES)}")
    set_up_logging(role)
    stop = threading.Event()
    stop_with_parent(stop.set)
    config, bundles = load_all(config_file)
    database = Database(config.database_url)
    database.migrate()
    try:
        ROLES[role](config, bundles, database, stop)
    finally:
        database.close()
    _log.info("role_ended")
    return 0


def _receiver(
    config: NodeConfig, bundles: Mapping[str, Bundle], database: Database, stop: threading.Event
) -> None:
    from dicom_node.receive import Receiver, ReceiverSettings
    from dicom_node.serve.events import AuditSink

    node = config.node
    receiver = Receiver(
        ReceiverSettings(
            ae_titles=tuple(node.ae_title),
            host=node.host,
            port=node.port,
            peers=config.senders,
            promiscuous=config.anyone_may_send,
            max_associations=node.max_associations,
            min_free_bytes=node.min_free_mb * 1024 * 1024,
        ),
        Spool(config.spool_dir),
        AuditSink(database),
        SystemClock(),
    )
    receiver.start()
    try:
        stop.wait()
    finally:
        receiver.stop()


def _coordinator(
    config: NodeConfig, bundles: Mapping[str, Bundle], database: Database, stop: threading.Event
) -> None:
    from dicom_node.serve.coordinator import Coordinator

    Coordinator(config, bundles, database, Spool(config.spool_dir), SystemClock()).run(stop)


def _worker(
    config: NodeConfig, bundles: Mapping[str, Bundle], database: Database, stop: threading.Event
) -> None:
    from dicom_node.inference.local import LocalExecutor
    from dicom_node.serve.worker import Worker, WorkerSettings

    settings = config.inference
    wanted = {name for route in config.routes for name in route.run}
    executor = LocalExecutor(
        {name: bundles[name] for name in wanted},
        device=settings.device,
        threads=settings.threads or os.cpu_count() or 1,
    )
    worker = Worker(
        WorkerSettings(
            name=f"worker-0@{socket.gethostname()}",
            lease=timedelta(seconds=settings.lease_seconds),
            attempts=settings.attempts,
            retry_wait=timedelta(seconds=config.retry.first_seconds),
        ),
        database=database,
        executor=executor,
        spool_dir=config.spool_dir,
        reports_dir=config.reports_dir,
        clock=SystemClock(),
    )
    worker.take_back()
    executor.warm_up()
    worker.run(stop, timedelta(seconds=0.2))


ROLES: Final[
    Mapping[
        str,
        Callable[[NodeConfig, Mapping[str, Bundle], Database, threading.Event], None],
    ]
] = {"receiver": _receiver, "coordinator": _coordinator, "worker": _worker}
