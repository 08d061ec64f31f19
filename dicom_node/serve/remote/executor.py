"""The executor whose pipelines run on a Ray cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import ray
import structlog
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError

from dicom_node.config.ray import RaySection
from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.memory import HostMemoryError
from dicom_node.logs import error_facts
from dicom_node.model.findings import Algorithm
from dicom_node.model.pipeline import PipelineSpec
from dicom_node.serve.failures import LostError
from dicom_node.serve.remote.actor import PipelineActor
from dicom_node.serve.remote.cluster import Cluster
from dicom_node.serve.remote.parcel import packed, program_hash
from dicom_node.serve.remote.pool import Actor, Pool
from dicom_node.serve.remote.wire import Failure, Order, Ready, RemoteJob, content_of
from dicom_node.store.losses import Loss

_log = structlog.get_logger()

_GRACE: Final = 6.0
"""Seconds in which the cluster may find that a machine is lost, before an actor's end is the
job's own doing."""
_TEND_EVERY: Final = 0.25
_PING: Final = 10.0

AWAY: Final = Loss(
    "ray_away",
    "the Ray cluster does not answer any more",
    blamed=False,
    counts=False,
    fix="start the Ray cluster; the job runs by itself then",
)
STOPPED: Final = Loss("lost", "the node was stopped", blamed=False, counts=False)


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """How pipelines run on the cluster.

    Attributes:
        pools: The actors of each pipeline.
        limits: How long a job of each may take.
        memory_mb: Of an actor; None: its share of its machine's.
    """

    pools: Mapping[str, RaySection]
    limits: Mapping[str, timedelta]
    memory_mb: int | None = None
    cpu_fallback: bool = True
    deterministic: bool = True
    selftest: bool = True
    lost_actors: int = 3
    cache_dir: Path | None = None

    def for_pool(self, name: str) -> object:
        """Return what a pipeline's actors were made with."""
        return self.pools[name], replace(self, pools={}, limits={}, lost_actors=0)


class RayExecutor:
    """Runs each pipeline in a pool of actors. Safe for threads.

    Args:
        grace: See `_GRACE`.
    """

    def __init__(self, cluster: Cluster, *, grace: float = _GRACE) -> None:
        self._cluster = cluster
        self._bundles: Mapping[str, Bundle] = {}
        self._settings = RemoteSettings({}, {})
        self._grace = grace
        self._news: SimpleQueue[tuple[str, Ready]] = SimpleQueue()
        self._closed: Loss | None = None
        self._pools: dict[str, Pool] = {}
        self._unfit: dict[str, PipelineError] = {}
        self._end = threading.Event()
        self._keeper = threading.Thread(target=self._tend, name="ray-pools", daemon=True)
        self._keeper.start()

    def take(self, bundles: Mapping[str, Bundle], settings: RemoteSettings) -> None:
        """Run these from now on; actors of what is the same stay. While no job is in hand."""
        old, self._settings = self._settings, settings
        kept = {}
        for name, pool in self._pools.items():
            same = name in bundles and bundles[name] == self._bundles[name]
            if same and old.for_pool(name) == settings.for_pool(name):
                kept[name] = pool
            else:
                pool.close(LostError(f"pipeline {name}", STOPPED))
        self._bundles = dict(bundles)
        self._unfit = {}
        for name, bundle in bundles.items():
            if name in kept:
                continue
            try:
                launcher = _RayLauncher(self._cluster, bundle, settings)
            except PipelineError as error:
                _log.error("pipeline_not_loaded", pipeline=name, why=error.why, fix=error.fix)
                self._unfit[name] = error
                continue
            kept[name] = Pool(
                name, settings.pools[name], launcher, lambda *told: self._news.put(told)
            )
        self._pools = kept

    def spec(self, name: str) -> PipelineSpec:
        """Return a pipeline's `dicom.yaml`."""
        return self._bundle(name).spec

    def algorithm(self, name: str) -> Algorithm:
        """Return how a pipeline's model is named in its results."""
        return self._bundle(name).algorithm()

    def run(self, name: str, job: JobInput) -> Outcome:
        """Run a pipeline on a job's images, again on another machine when one is lost.

        Raises:
            PipelineError: It cannot be loaded, it raised, or it made nonsense.
            LostError: What ran it was lost: by the job's doing, or for good.
        """
        pool = self._pool(name)
        # before an actor is free: this is what `prefetch` does ahead
        contents = self._put(name, job)
        for lost in range(self._settings.lost_actors + 1):
            actor = pool.acquire()
            try:
                told = self._told(name, actor, RemoteJob.of(job), contents)
            except _MachineLostError as error:
                pool.discard(actor)
                _log.warning(
                    "ray_node_lost", pipeline=name, node=actor.ready.node_id, why=str(error)
                )
                if lost == self._settings.lost_actors:
                    break
                continue
            except BaseException:
                pool.discard(actor)
                raise
            if isinstance(told, Failure):
                if told.memory:
                    pool.discard(actor)
                    raise HostMemoryError(told.what, told.why, told.fix)
                pool.release(actor)
                raise PipelineError(told.what, told.why, told.fix)
            pool.release(actor)
            # arrays of the object store may not be written to
            return deepcopy(told)
        why = f"{self._settings.lost_actors + 1} Ray nodes were lost while they ran it"
        raise LostError(f"pipeline {name}", Loss("lost", why, blamed=False))

    def run_many(self, name: str, jobs: Sequence[JobInput]) -> Iterator[Outcome]:
        """Run several jobs one after the other."""
        for job in jobs:
            yield self.run(name, job)

    def begin(self, name: str) -> None:
        """A job of a pipeline was claimed."""
        if name in self._pools:
            self._pools[name].begin()

    def end(self, name: str) -> None:
        """A job of a pipeline that was claimed has ended."""
        if name in self._pools:
            self._pools[name].end()

    def full(self) -> set[str]:
        """Return the pipelines that no more jobs may be claimed of now."""
        return {name for name, pool in self._pools.items() if not pool.has_room}

    def expect(self, queued: Mapping[str, int]) -> None:
        """Take note of how many jobs wait in the queue, by pipeline."""
        for name, pool in self._pools.items():
            pool.expect(queued.get(name, 0))

    def actors(self) -> dict[str, int]:
        """Return how many actors each pipeline has."""
        return {name: pool.size for name, pool in self._pools.items()}

    @property
    def most_jobs(self) -> int:
        """How many jobs can be in hand at a time."""
        return sum(pool.max_actors + pool.prefetch for pool in self._settings.pools.values()) + len(
            self._unfit
        )

    def news(self) -> Iterator[tuple[str, Ready]]:
        """Yield what new actors have said since the last time."""
        while True:
            try:
                name, ready = self._news.get_nowait()
            except Empty:
                return
            if name in self._bundles:
                yield name, ready

    def close(self, why: Loss = STOPPED) -> None:
        """End all actors; jobs in hand are lost for the reason that is given."""
        self._closed = self._closed or why
        self._end.set()
        for name, pool in self._pools.items():
            pool.close(LostError(f"pipeline {name}", why))
        self._keeper.join(5)

    def _bundle(self, name: str) -> Bundle:
        if name not in self._bundles:
            raise PipelineError(
                f"pipeline {name}", "this node has none of that name", "add it, or its folder"
            )
        return self._bundles[name]

    def _pool(self, name: str) -> Pool:
        if name in self._unfit:
            raise self._unfit[name]
        self._bundle(name)
        return self._pools[name]

    def _put(self, name: str, job: JobInput) -> Any:
        """Put a job's images into the object store."""
        try:
            return ray.put([content_of(file) for file in job.files])
        except (RayError, ConnectionError) as error:
            if self._cluster.is_away:
                raise LostError(f"pipeline {name}", AWAY) from None
            why = f"Ray's object store did not take its images ({type(error).__name__})"
            fix = "give the object store more memory (`ray start --object-store-memory`)"
            loss = Loss("no_room", why, blamed=False, counts=False, fix=fix)
            raise LostError(f"pipeline {name}", loss) from None

    def _told(self, name: str, actor: Actor, job: RemoteJob, contents: Any) -> Outcome | Failure:
        """Wait for what an actor makes of a job, at most as long as it may take.

        Raises:
            LostError: It took too long, it took down the actor, or the node ends.
            _MachineLostError: The actor's machine is lost.
        """
        limit = self._settings.limits[name]
        end = time.monotonic() + limit.total_seconds()
        what = f"pipeline {name}"
        try:
            reply = actor.handle.run.remote(job, contents)
            while not ray.wait([reply], timeout=min(0.5, max(0.0, end - time.monotonic())))[0]:
                if self._closed is not None:
                    raise LostError(what, self._closed)
                if self._cluster.is_away:
                    raise LostError(what, AWAY)
                if time.monotonic() >= end:
                    raise self._too_long(name, actor, limit)
            told: Outcome | Failure = ray.get(reply, timeout=_PING)
        except RayActorError as error:
            raise self._why_gone(name, actor, error) from None
        except (RayError, ConnectionError) as error:
            # an object was lost on its way, or the connection was
            if self._cluster.is_away:
                raise LostError(what, AWAY) from None
            raise _MachineLostError(type(error).__name__) from None
        return told

    def _too_long(self, name: str, actor: Actor, limit: timedelta) -> Exception:
        if self._cluster.has_lost(actor.ready.node_id, self._grace):
            return _MachineLostError("it did not answer")
        why = f"it ran longer than its limit of {limit.total_seconds():g} s"
        return LostError(f"pipeline {name}", Loss("time_limit", why, blamed=True))

    def _why_gone(self, name: str, actor: Actor, error: RayActorError) -> Exception:
        """Tell a machine that is lost from a job that took down its process."""
        if self._closed is not None:
            return LostError(f"pipeline {name}", self._closed)
        if self._cluster.has_lost(actor.ready.node_id, self._grace):
            if self._cluster.is_away:
                return LostError(f"pipeline {name}", AWAY)
            return _MachineLostError("its machine is lost")
        if isinstance(error, ActorUnavailableError):
            try:
                ray.get(actor.handle.ping.remote(), timeout=_PING)
            except ActorUnavailableError:
                return _MachineLostError("it cannot be reached")
            except GetTimeoutError:
                return _MachineLostError("it does not answer")
            except RayActorError:
                pass  # now it is known to be dead, on a machine that lives
            else:
                return _MachineLostError("the connection to it broke")
        why = "it crashed its Ray actor (the process died, its machine did not)"
        return LostError(f"pipeline {name}", Loss("crashed", why, blamed=True))

    def _tend(self) -> None:
        while not self._end.wait(_TEND_EVERY):
            if self._cluster.is_away:
                self._closed = self._closed or AWAY
                for name, pool in self._pools.items():
                    pool.close(LostError(f"pipeline {name}", AWAY))
                return
            for name, pool in self._pools.items():
                try:
                    pool.tend()
                except (RayError, ConnectionError, RuntimeError) as error:
                    _log.warning("actors_not_tended", pipeline=name, **error_facts(error))


class _MachineLostError(Exception):
    """The machine of an actor is lost; the job is not to blame."""


@dataclass(slots=True)
class _RayLauncher:
    """Starts actors of one pipeline."""

    cluster: Cluster
    bundle: Bundle
    settings: RemoteSettings
    _order: Order = field(init=False)
    _parcel: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        manifest, files = packed(self.bundle)
        pool = self.settings.pools[manifest.name]
        # as many threads as the cores that it has
        self._order = Order(
            manifest,
            program_hash(),
            device="cuda" if pool.num_gpus else "cpu",
            threads=max(1, int(pool.num_cpus)),
            cpu_fallback=self.settings.cpu_fallback,
            deterministic=self.settings.deterministic,
            memory_mb=self.settings.memory_mb,
            share=pool.num_cpus,
            selftest=self.settings.selftest,
            cache_dir=self.settings.cache_dir,
        )
        self._parcel = {name: ray.put(content) for name, content in files.items()}

    def start(self) -> tuple[Any, Any]:
        pool = self.settings.pools[self.bundle.name]
        remote: Any = ray.remote(PipelineActor)
        handle = remote.options(
            num_cpus=pool.num_cpus, num_gpus=pool.num_gpus, max_restarts=0, max_task_retries=0
        ).remote(self._order, self._parcel)
        return handle, handle.load.remote()

    def told(self, loading: Any) -> Ready | Failure | None:
        if not ray.wait([loading], timeout=0)[0]:
            return None
        try:
            told: Ready | Failure = ray.get(loading, timeout=_PING)
        except RayError as error:
            return self._died(error)
        return told

    def kill(self, handle: Any) -> None:
        if self.cluster.is_away:
            return  # it would wait for an answer; actors end with their owner
        try:
            ray.kill(handle, no_restart=True)
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            _log.info("actor_not_killed", pipeline=self.bundle.name, **error_facts(error))

    def lives(self, actor: Actor) -> bool:
        try:
            return bool(ray.get(actor.handle.ping.remote(), timeout=_PING))
        except (RayError, ConnectionError):
            return False

    def _died(self, error: RayError) -> Ready | Failure | None:
        """An actor that dies while it loads may have lost its machine: another is tried."""
        why = f"its Ray actor died while it was loaded ({type(error).__name__})"
        fix = f"`dicom-node pipelines check {self.bundle.name}`, and the logs of the Ray nodes"
        raise LostError(
            f"pipeline {self.bundle.name}", Loss("lost", why, blamed=False, fix=fix)
        ) from None
