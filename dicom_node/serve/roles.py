"""Each role as a process of its own: receiver, coordinator, worker; and all under one roof."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig, load_config
from dicom_node.errors import ConfigError, NodeError, StoreError
from dicom_node.inference.bundles import Bundle, find_bundles
from dicom_node.logs import error_facts, set_up_logging
from dicom_node.serve.limits import (
    LoadingMark,
    default_memory_mb,
    forget_loading,
    limit_memory,
    time_limit,
    time_limits,
)
from dicom_node.serve.locks import Hold, hold, hold_numbered, holders, worker_name
from dicom_node.serve.supervisor import (
    CHILD,
    LAST_STATUS,
    SUPERVISED,
    Supervisor,
    role_commands,
    stop_with_parent,
)
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool

_log = structlog.get_logger()

_OTHER_DESCRIPTORS: Final = 256
"""Of a receiver, beside its connections: files made in advance, the database, the log."""


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
    """Run every role, each in its own process, until SIGTERM or SIGINT.

    Raises:
        ConfigError: `node.yaml` or a pipeline is wrong.
        StoreError: The data folder cannot be written, or another node runs on it.
    """
    set_up_logging("supervisor")
    config, _ = load_all(config_file)
    data_dir = config.node.data_dir
    held = hold(data_dir, "supervisor")
    if held is None:
        pid = holders(data_dir).get("supervisor", 0)
        raise StoreError(
            f"data folder {data_dir}",
            f"another `dicom-node serve` runs on it (process {pid})",
            "stop that one, or give this node its own `node.data_dir`",
        )
    with held:
        forget_loading(data_dir)
        numbers = dict.fromkeys(ROLES, 1) | {
            "receiver": config.receive.processes,
            "worker": config.inference.workers,
        }
        supervisor = Supervisor(role_commands(numbers, config_file))
        stop_with_parent(supervisor.stop)
        return supervisor.run()


def serve_role(config_file: Path, role: str) -> int:
    """Run one role in this process until SIGTERM, SIGINT or the supervisor's end.

    Returns:
        The exit status: 0, or 1 when the role failed; the log says why.

    Raises:
        ConfigError: `node.yaml`, a pipeline or the role's name is wrong.
    """
    if role not in ROLES:
        raise ConfigError(f"role {role}", "there is none", f"roles are: {', '.join(ROLES)}")
    set_up_logging(role)
    stop = threading.Event()
    stop_with_parent(stop.set)
    try:
        config, bundles = load_all(config_file)
        database = Database(config.database_url)
        try:
            database.migrate()
            ROLES[role](config, bundles, database, stop)
        finally:
            database.close()
    except ConfigError:
        raise  # told in full by the command line, and no restart would help
    except NodeError as error:
        _log.error("role_failed", **error_facts(error))
        return 1
    except Exception as error:  # noqa: BLE001 - its text may hold patient data: type and place
        _log.error("role_crashed", **error_facts(error))
        return 1
    _log.info("role_ended")
    return 0


def _receiver(
    config: NodeConfig, bundles: Mapping[str, Bundle], database: Database, stop: threading.Event
) -> None:
    from dicom_node.receive import Receiver
    from dicom_node.serve.commitment import CommitmentBook
    from dicom_node.serve.events import AuditSink
    from dicom_node.serve.receiving import receiver_settings

    receiver = Receiver(
        receiver_settings(config),
        Spool(config.spool_dir),
        AuditSink(database),
        SystemClock(),
        CommitmentBook(database, SystemClock(), timedelta(seconds=config.retry.first_seconds)),
    )
    _allow_descriptors(config.receive.max_connections + _OTHER_DESCRIPTORS)
    with hold_numbered(config.node.data_dir, "receiver"):
        receiver.start()
        try:
            stop.wait()
        finally:
            receiver.stop()


def _allow_descriptors(wanted: int) -> None:
    """Raise our limit of open files as far as it takes, and as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "few_open_files_allowed",
            allowed=allowed,
            wanted=wanted,
            fix="raise the limit (`ulimit -Hn`, LimitNOFILE=), or lower `receive.max_connections`",
        )


def _yield_to_receivers(niceness: int) -> None:
    """Let the receivers of the same node go first: a modality never waits for an analysis.

    A role that was started alone has the priority that it was started with.
    """
    if SUPERVISED in os.environ:
        os.nice(niceness)


def _coordinator(
    config: NodeConfig, bundles: Mapping[str, Bundle], database: Database, stop: threading.Event
) -> None:
    from dicom_node.serve.coordinator import Coordinator

    _yield_to_receivers(5)
    # one of them moves the studies; another waits to take its place
    with contextlib.ExitStack() as stack:
        waiting = False
        while (held := hold(config.node.data_dir, "coordinator")) is None:
            if not waiting:
                _log.warning("waits_for_the_other_coordinator")
            waiting = True
            if stop.wait(0.2):
                return
        stack.enter_context(held)
        Coordinator(config, bundles, database, Spool(config.spool_dir), SystemClock()).run(stop)


def _worker(
    config: NodeConfig, bundles: Mapping[str, Bundle], database: Database, stop: threading.Event
) -> None:
    from dicom_node.inference.local import LocalExecutor
    from dicom_node.serve.worker import Worker, WorkerSettings

    _yield_to_receivers(10)
    settings = config.inference
    wanted = {name for route in config.routes for name in route.run}
    cores = os.cpu_count() or 1
    executor = LocalExecutor(
        {name: bundles[name] for name in sorted(wanted)},
        device=settings.device,
        threads=settings.threads or max(1, cores // settings.workers),
        cpu_fallback=settings.cpu_fallback,
    )
    if settings.max_memory_mb is not None:
        limit_memory(settings.max_memory_mb)
    elif not executor.on_gpu:  # what a driver maps is its own affair
        limit_memory(default_memory_mb(settings.workers))
    held, last_status = _hold_worker(config.node.data_dir)
    limits = time_limits(config, bundles)
    worker = Worker(
        WorkerSettings(
            name=worker_name(held.name),
            lease=timedelta(seconds=settings.lease_seconds),
            attempts=settings.attempts,
            retry_wait=timedelta(seconds=config.retry.first_seconds),
            time_limit=timedelta(seconds=settings.time_limit_seconds),
            time_limits=limits,
            quarantine_after=settings.quarantine_after,
            report_failures=settings.report_failures,
        ),
        limited=time_limit,
        database=database,
        executor=executor,
        spool_dir=config.spool_dir,
        reports_dir=config.reports_dir,
        clock=SystemClock(),
    )
    with held:
        worker.take_back(last_status)
        loading = LoadingMark(held, config.node.data_dir)
        executor.warm_up(
            loading.left_behind(), lambda name: loading.around(name, time_limit(limits[name]))
        )
        worker.run(stop, timedelta(seconds=0.2))


def _hold_worker(data_dir: Path) -> tuple[Hold, int | None]:
    """Take a worker's name; with it comes how the last worker of that name ended, if known.

    The name of one that died is free again, and its successor takes back what it held.
    """
    child = os.environ.get(CHILD, "") if SUPERVISED in os.environ else ""
    if child:
        held = hold(data_dir, child if child[-1].isdigit() else f"{child}-0")
        if held is not None:
            status = os.environ.get(LAST_STATUS)
            return held, int(status) if status else None
    return hold_numbered(data_dir, "worker"), None


ROLES: Final[
    Mapping[
        str,
        Callable[[NodeConfig, Mapping[str, Bundle], Database, threading.Event], None],
    ]
] = {"receiver": _receiver, "coordinator": _coordinator, "worker": _worker}
