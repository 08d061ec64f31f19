"""The role `worker` where `inference.executor` is `ray`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

import structlog

from dicom_node.clock import SystemClock
from dicom_node.config import NodeConfig
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.local import LocalExecutor
from dicom_node.logs import error_facts
from dicom_node.serve.away import AwayNote
from dicom_node.serve.limits import time_limits
from dicom_node.serve.live import Live, Loaded
from dicom_node.serve.products import Executor
from dicom_node.serve.remote.cluster import Cluster, ClusterAwayError
from dicom_node.serve.remote.dispatcher import Dispatcher
from dicom_node.serve.remote.executor import RayExecutor, RemoteSettings
from dicom_node.serve.worker import Worker
from dicom_node.store.database import Database
from dicom_node.store.losses import Loss
from dicom_node.store.wake import Wake

_log = structlog.get_logger()

_LOOKS_EVERY: Final = 5.0
_OWN_EXIT: Final = (0, 1, 2)

MakeWorker = Callable[[Loaded, Executor], Worker]


def dispatch(
    live: Live,
    database: Database,
    name: str,
    wake: Wake,
    *,
    last_status: int | None,
    bundles_of: Callable[[Loaded], dict[str, Bundle]],
    worker_of: MakeWorker,
) -> None:
    """Give jobs to the cluster until told to stop.

    Args:
        name: Of the worker, in the queue.
        last_status: How the last process of that name ended; None: not known.

    Raises:
        ClusterAwayError: The cluster went away: what Ray left behind goes with the process.
    """
    clock = SystemClock()
    note = AwayNote(live.config.node.data_dir, name)
    cluster = Cluster(live.config.ray.address)
    # what the last process of this name held waits for no cluster
    worker_of(live.begin(), LocalExecutor({}, device="cpu")).take_back(
        last_status, lost=_loss_of(last_status)
    )
    waiting = False
    while not live.stop.is_set():
        try:
            cluster.join()
            break
        except ClusterAwayError as error:
            note.put(error, clock.now())
            if not waiting:
                _log.error("ray_away", **error_facts(error))
            waiting = True
            live.stop.wait(_LOOKS_EVERY)
    else:
        note.clear()
        return
    note.clear()
    executor = RayExecutor(cluster)
    try:
        while not live.stop.is_set():
            now = live.begin()
            bundles = bundles_of(now)
            executor.take(bundles, remote_settings(now.config, bundles))
            Dispatcher(
                worker_of(now, executor),
                executor,
                cluster,
                database,
                clock,
                wake,
                tested=now.config.inference.selftest,
            ).run(live.turn, live.stop, timedelta(seconds=0.2))
    except ClusterAwayError as error:
        note.put(error, clock.now())
        raise
    finally:
        executor.close()
        cluster.leave()


def remote_settings(config: NodeConfig, bundles: Mapping[str, Bundle]) -> RemoteSettings:
    """Return how a configuration's pipelines run on the cluster."""
    sections = {name: config.pipelines.get(name) for name in bundles}
    return RemoteSettings(
        pools={
            name: config.ray.of(section.ray if section is not None else None)
            for name, section in sections.items()
        },
        limits=time_limits(config, bundles),
        memory_mb=config.inference.max_memory_mb,
        cpu_fallback=config.inference.cpu_fallback,
        deterministic=config.inference.deterministic,
        selftest=config.inference.selftest,
        lost_actors=config.ray.lost_actors,
        cache_dir=config.ray.cache_dir,
    )


def _loss_of(status: int | None) -> Loss:
    """What the end of the last process was to jobs that ran elsewhere.

    Ray ends it when the cluster or this machine's part of it is lost: no attempt of the jobs. A
    signal may have come from what the process itself does for a job.
    """
    why = "its worker was stopped, or lost its Ray cluster"
    return Loss("lost", why, blamed=False, counts=status not in _OWN_EXIT)
