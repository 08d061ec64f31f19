"""Each role as a process of its own: receiver, coordinator, worker; and all under one roof."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig, read_text
from dicom_node.errors import ConfigError, NodeError, StoreError
from dicom_node.inference.bundles import Bundle
from dicom_node.logs import error_facts, set_up_logging
from dicom_node.serve.limits import (
    LoadingMark,
    default_memory_mb,
    forget_loading,
    limit_memory,
    time_limit,
    time_limits,
)
from dicom_node.serve.live import (
    CONFIGURATION,
    Live,
    Loaded,
    bundles_of,
    load_text,
    on_hangup,
)
from dicom_node.serve.locks import Hold, hold, hold_numbered, holders, worker_name
from dicom_node.serve.presence import told_in_audit_trail
from dicom_node.serve.reloading import Reloader, load_for_role
from dicom_node.serve.sharing import files_of
from dicom_node.serve.supervisor import (
    CHILD,
    LAST_STATUS,
    SUPERVISED,
    Supervisor,
    role_commands,
    stop_with_parent,
)
from dicom_node.store.configurations import digest_of
from dicom_node.store.database import Database
from dicom_node.store.spool import Spool
from dicom_node.store.wake import Topic, Wake, bell_of, woken

if TYPE_CHECKING:
    from dicom_node.serve.products import Executor
    from dicom_node.serve.worker import Worker

__all__ = ["ROLES", "bundles_of", "load_all", "serve", "serve_role"]

_log = structlog.get_logger()

RunRole = Callable[[Live, Database], None]
"""Runs a role until its `Live` stops."""

_SEES_SIGNALS_AFTER: Final = 1.0
"""Seconds."""
_OTHER_DESCRIPTORS: Final = 256
"""Of a receiver, beside its connections: files made in advance, the database, the log."""


def load_all(config_file: Path) -> tuple[NodeConfig, Mapping[str, Bundle]]:
    """Load `node.yaml` and the pipelines it names.

    Raises:
        ConfigError: Either is wrong.
    """
    loaded = load_text(read_text(config_file), config_file)
    return loaded.config, loaded.bundles


def serve(config_file: Path) -> int:
    """Run every role, each in its own process, until SIGTERM or SIGINT.

    Raises:
        ConfigError: `node.yaml` or a pipeline is wrong.
        StoreError: The data folder cannot be written, or another node runs on it.
    """
    set_up_logging("supervisor")
    first = load_text(read_text(config_file), config_file)
    config = first.config
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
        if config.hosts is not None:
            numbers["keeper"] = 1
        if config.web is not None:
            numbers["web"] = 1
        reloader = Reloader(config_file, first)
        supervisor = Supervisor(
            role_commands(numbers, config_file),
            environment={CONFIGURATION: str(reloader.folder)},
            take=reloader.reload,
        )
        stop_with_parent(supervisor.stop)
        on_hangup(supervisor.reload)
        reloader.start(first.text)
        return supervisor.run()


def serve_role(config_file: Path, role: str, others: Mapping[str, RunRole] | None = None) -> int:
    """Run one role in this process until SIGTERM, SIGINT or the supervisor's end.

    Args:
        others: Roles that live in rooms above this one, by name.

    Returns:
        The exit status: 0, or 1 when the role failed; the log says why.

    Raises:
        ConfigError: `node.yaml`, a pipeline or the role's name is wrong.
    """
    known = {**ROLES, "keeper": _keeper, **(others or {})}
    if role not in known:
        raise ConfigError(f"role {role}", "there is none", f"roles are: {', '.join(known)}")
    set_up_logging(role)
    stop = threading.Event()
    stop_with_parent(stop.set)
    folder = os.environ.get(CONFIGURATION) if SUPERVISED in os.environ else None
    try:
        first, load = load_for_role(config_file, Path(folder) if folder else None)
        live = Live(first, load, stop)
        on_hangup(live.ask)
        database = Database(live.config.database_url)
        try:
            database.migrate()
            with live.following(), told_in_audit_trail(database, role):
                known[role](live, database)
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


def _receiver(live: Live, database: Database) -> None:
    from dicom_node.receive import Receiver
    from dicom_node.receive.server import leave_values_alone
    from dicom_node.serve.commitment import CommitmentBook
    from dicom_node.serve.events import AuditSink, counting
    from dicom_node.serve.receiving import receiver_settings

    config = live.config
    leave_values_alone()
    sink = AuditSink(database)
    receiver = Receiver(
        receiver_settings(config),
        Spool(config.spool_dir),
        sink,
        SystemClock(),
        CommitmentBook(database, SystemClock(), timedelta(seconds=config.retry.first_seconds)),
    )
    _allow_descriptors(config.receive.max_connections + _OTHER_DESCRIPTORS)
    with hold_numbered(config.node.data_dir, "receiver") as held, counting(sink, SystemClock()):
        receiver.start()
        try:
            while not live.stop.is_set():
                now = live.begin()
                receiver.change(receiver_settings(now.config))
                held.runs(digest_of(now.text))
                # Python sees a signal only when its main thread wakes, and one that comes just
                # before this wait, or to another thread, does not wake it
                while not live.turn.wait(_SEES_SIGNALS_AFTER):
                    pass
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


def _coordinator(live: Live, database: Database) -> None:
    from dicom_node.serve.coordinator import Coordinator
    from dicom_node.serve.leading import Leadership

    _yield_to_receivers(5)
    data_dir = live.config.node.data_dir
    clock = SystemClock()
    started = clock.now()
    # one of them moves the studies; another waits to take its place
    with contextlib.ExitStack() as stack:
        waiting = False
        while (held := hold(data_dir, "coordinator")) is None:
            if not waiting:
                _log.warning("waits_for_the_other_coordinator")
            waiting = True
            if live.stop.wait(0.2):
                return
        stack.enter_context(held)
        leadership = stack.enter_context(contextlib.closing(Leadership(database)))
        listener = stack.enter_context(woken(database, Topic.DELIVERIES))
        # of several hosts, too, one of them moves the studies
        while leadership.wait(live.stop):
            now = live.begin()
            held.runs(digest_of(now.text))
            with leadership.watched(live.turn):
                Coordinator(
                    now.config,
                    now.bundles,
                    database,
                    Spool(now.config.spool_dir),
                    clock,
                    started=started,
                    wake=partial(bell_of, listener),
                ).run(live.turn)
            held.runs("")


def _worker(live: Live, database: Database) -> None:
    _yield_to_receivers(10)
    run = _on_ray if live.config.inference.executor == "ray" else _here
    run(live, database)


def _on_ray(live: Live, database: Database) -> None:
    from dicom_node.serve.remote.cluster import require_ray

    require_ray()
    from dicom_node.serve.remote.role import dispatch

    held, last_status = _hold_worker(live.config.node.data_dir)
    with held, woken(database, Topic.JOBS) as listener:
        bell = bell_of(listener)
        dispatch(
            live,
            database,
            worker_name(held.name, live.config.this_host),
            bell,
            last_status=last_status,
            bundles_of=routed_bundles,
            worker_of=lambda now, executor: _worker_of(
                now, executor, database, held, bell, elsewhere=True
            ),
        )


def _here(live: Live, database: Database) -> None:
    from dicom_node.inference.local import LocalExecutor
    from dicom_node.serve.selftest import self_test

    settings = live.config.inference
    data_dir = live.config.node.data_dir
    held, last_status = _hold_worker(data_dir)
    executor = LocalExecutor(
        routed_bundles(live.begin()),
        device=device_of_worker(settings.device, held.name),
        threads=settings.threads_of_worker(),
        cpu_fallback=settings.cpu_fallback,
        deterministic=settings.deterministic,
        model_memory_mb=settings.model_memory_mb,
        tunings=live.config.tuning_dir,
    )
    if settings.max_memory_mb is not None:
        limit_memory(settings.max_memory_mb)
    elif not executor.on_gpu:  # what a driver maps is its own affair
        limit_memory(default_memory_mb(settings.workers))
    with held, woken(database, Topic.JOBS) as listener:
        bell = bell_of(listener)
        loading = LoadingMark(held, data_dir)
        left = loading.left_behind()
        _worker_of(live.begin(), executor, database, held, bell).take_back(last_status)
        while not live.stop.is_set():
            now = live.begin()
            executor.take(routed_bundles(now))
            limits = time_limits(now.config, now.bundles)
            around = partial(_while_loading, loading, limits)
            # a node that is stopped while it starts ends at once
            loaded = executor.warm_up(left, around, live.stop.is_set)
            if settings.selftest:
                wanted = takewhile(lambda _: not live.stop.is_set(), loaded)
                self_test(executor, wanted, database, SystemClock(), around)
            worker = _worker_of(now, executor, database, held, bell)
            worker.run(live.turn, timedelta(seconds=0.2))


def device_of_worker(devices: Sequence[str], worker: str) -> str:
    """Return a worker's own of `inference.device`: they take them in turn, by their numbers."""
    number = worker.rpartition("-")[2]
    return devices[(int(number) if number.isdigit() else 0) % len(devices)]


def _while_loading(
    loading: LoadingMark, limits: Mapping[str, timedelta], name: str
) -> AbstractContextManager[object]:
    return loading.around(name, time_limit(limits[name]))


def routed_bundles(loaded: Loaded) -> dict[str, Bundle]:
    """Return the pipelines that a route runs, by name."""
    wanted = {name for route in loaded.config.routes for name in route.run}
    return {name: loaded.bundles[name] for name in sorted(wanted)}


def _worker_of(
    loaded: Loaded,
    executor: Executor,
    database: Database,
    held: Hold,
    wake: Wake,
    *,
    elsewhere: bool = False,
) -> Worker:
    """Make the worker of this process.

    Args:
        elsewhere: Jobs run in other processes, one in each, which are limited there.
    """
    from dicom_node.serve.worker import Worker, WorkerSettings

    config = loaded.config
    settings = config.inference
    return Worker(
        WorkerSettings(
            name=worker_name(held.name, config.this_host),
            lease=timedelta(seconds=settings.lease_seconds),
            attempts=settings.attempts,
            retry_wait=timedelta(seconds=config.retry.first_seconds),
            time_limit=timedelta(seconds=settings.time_limit_seconds),
            time_limits=time_limits(config, loaded.bundles),
            quarantine_after=settings.quarantine_after,
            report_failures=settings.report_failures,
            batch=1 if elsewhere else settings.batch,
            workers=settings.workers,
        ),
        limited=contextlib.nullcontext if elsewhere else time_limit,
        database=database,
        executor=executor,
        spool_dir=config.spool_dir,
        reports_dir=config.reports_dir,
        clock=SystemClock(),
        wake=wake,
        files=files_of(config, database),
        host=config.this_host,
    )


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


def _keeper(live: Live, database: Database) -> None:
    from dicom_node.serve.keeper import Keeper

    _yield_to_receivers(5)
    section = live.config.hosts
    if section is None:
        raise ConfigError(
            "role keeper", "node.yaml has no section `hosts`", "add it, or leave out the role"
        )
    data_dir = live.config.node.data_dir
    held = hold(data_dir, "keeper")
    if held is None:
        why = f"one runs already (process {holders(data_dir).get('keeper', 0)})"
        raise StoreError("role keeper", why, "stop that one, or give this host its own data folder")
    with held:
        keeper: Keeper | None = None
        while not live.stop.is_set():
            config = live.begin().config
            keeper = Keeper(config, section, database, Spool(config.spool_dir), SystemClock())
            keeper.begin()
            keeper.run(live.turn)
        if keeper is not None:
            keeper.end()


ROLES: Final[Mapping[str, RunRole]] = {
    "receiver": _receiver,
    "coordinator": _coordinator,
    "worker": _worker,
}
