"""The actors of one pipeline: as many as the waiting jobs need, and no more than may be."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

import structlog

from dicom_node.config.ray import RaySection
from dicom_node.errors import NodeError, PipelineError
from dicom_node.serve.failures import LostError
from dicom_node.serve.remote.wire import Failure, Ready
from dicom_node.store.losses import Loss

_log = structlog.get_logger()

_AFTER_FAILURE: Final = 5.0
_LONGEST_REST: Final = 300.0
"""Seconds without another start after one that failed; doubled with each in a row."""
_DEATHS: Final = 3
"""So many actors in a row that die while they load are the pipeline's doing, not a machine's."""


class Launcher(Protocol):
    """Starts and ends actors of one pipeline."""

    def start(self) -> tuple[Any, Any]:
        """Start one; returns its handle, and what its `load` returns some day."""

    def told(self, loading: Any) -> Ready | Failure | None:
        """Return what `load` returned; None: not yet. Raises LostError when it died."""

    def kill(self, handle: Any) -> None: ...

    def lives(self, actor: Actor) -> bool: ...


@dataclass(eq=False, slots=True)
class Actor:
    """One that can run jobs."""

    handle: Any
    ready: Ready
    since: float = field(default_factory=time.monotonic)


@dataclass(eq=False, slots=True)
class _Coming:
    handle: Any
    loading: Any
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Lends out actors. Safe for threads; `tend` is called by one of them, now and then.

    Args:
        news: Called with what each new actor says of itself.
    """

    def __init__(
        self,
        name: str,
        limits: RaySection,
        launcher: Launcher,
        news: Callable[[str, Ready], None] = lambda _, __: None,
    ) -> None:
        self._name = name
        self._limits = limits
        self._launcher = launcher
        self._news = news
        self._changed = threading.Condition()
        self._idle: deque[Actor] = deque()
        self._busy: set[Actor] = set()
        self._coming: list[_Coming] = []
        self._in_hand = 0
        self._waiting = 0
        self._queued = 0
        self._not_before = 0.0
        self._failures = 0
        self._problem: tuple[float, NodeError] | None = None
        self._closed: LostError | None = None

    @property
    def size(self) -> int:
        """How many actors there are, those that are being loaded included."""
        with self._changed:
            return len(self._idle) + len(self._busy) + len(self._coming)

    @property
    def has_room(self) -> bool:
        """Whether another job may be claimed: for an actor that is free, or ahead."""
        with self._changed:
            there = len(self._idle) + len(self._busy)
            # of one that cannot be loaded each job fails with the reason, as it would here
            known = self._problem is not None and isinstance(self._problem[1], PipelineError)
            resting = not there and not known and time.monotonic() < self._not_before
            return not resting and self._in_hand < max(1, there) + self._limits.prefetch

    def expect(self, queued: int) -> None:
        """Take note of how many jobs wait in the queue."""
        with self._changed:
            self._queued = queued

    def begin(self) -> None:
        """A job was claimed."""
        with self._changed:
            self._in_hand += 1
            self._queued = max(0, self._queued - 1)

    def end(self) -> None:
        """A job that was claimed has ended."""
        with self._changed:
            self._in_hand -= 1

    def acquire(self) -> Actor:
        """Wait for an actor that is free.

        Raises:
            LostError: There is no room in the cluster, or the node ends.
            PipelineError: The pipeline cannot be loaded.
        """
        with self._changed:
            self._waiting += 1
        try:
            return self._acquire()
        finally:
            with self._changed:
                self._waiting -= 1

    def _acquire(self) -> Actor:
        since = time.monotonic()
        end = since + self._limits.place_seconds
        while True:
            with self._changed:
                while not self._idle:
                    if self._closed is not None:
                        raise self._closed
                    if self._has_problem(since):
                        assert self._problem is not None
                        raise self._problem[1]
                    if time.monotonic() >= end:
                        raise self._no_room()
                    self._changed.wait(0.5)
                if self._closed is not None:
                    raise self._closed
                # the one used last: the others become idle for longer, and may go
                actor = self._idle.pop()
                self._busy.add(actor)
            if self._launcher.lives(actor):
                return actor
            self.discard(actor)

    def release(self, actor: Actor) -> None:
        """Give an actor back."""
        with self._changed:
            self._busy.discard(actor)
            if self._closed is None:
                actor.since = time.monotonic()
                self._idle.append(actor)
                self._changed.notify_all()
                return
        self._launcher.kill(actor.handle)

    def discard(self, actor: Actor) -> None:
        """End an actor that is not fit for another job."""
        with self._changed:
            self._busy.discard(actor)
        self._launcher.kill(actor.handle)

    def close(self, why: LostError) -> None:
        """End all actors; who waits for one gets `why`."""
        with self._changed:
            self._closed = why
            handles = [actor.handle for actor in (*self._idle, *self._busy)]
            handles += [coming.handle for coming in self._coming]
            self._idle.clear()
            self._coming.clear()
            self._changed.notify_all()
        for handle in handles:
            self._launcher.kill(handle)

    def tend(self) -> None:
        """Take in who is ready, start who is needed, let go who is not."""
        for coming in list(self._coming):
            self._take_in(coming)
        now = time.monotonic()
        surplus: list[Any] = []
        with self._changed:
            if self._closed is not None:
                return
            limits = self._limits
            there = len(self._idle) + len(self._busy) + len(self._coming)
            demand = self._waiting + len(self._busy) + self._queued
            wanted = min(limits.max_actors, max(limits.min_actors, demand))
            start = wanted - there if now >= self._not_before else 0
            while there > max(limits.min_actors, self._in_hand) and self._idle:
                if now - self._idle[0].since < limits.idle_seconds:
                    break
                surplus.append(self._idle.popleft().handle)
                there -= 1
            while there > wanted and self._coming:
                # nobody waits for it any more, and the cluster may not even have room for it
                if now - self._coming[-1].since < limits.idle_seconds:
                    break
                surplus.append(self._coming.pop().handle)
                there -= 1
        for handle in surplus:
            self._launcher.kill(handle)
        for _ in range(max(0, start)):
            handle, loading = self._launcher.start()
            with self._changed:
                self._coming.append(_Coming(handle, loading))
        if surplus or start > 0:
            _log.info(
                "actors_changed", pipeline=self._name, started=max(0, start), released=len(surplus)
            )

    def _take_in(self, coming: _Coming) -> None:
        try:
            told = self._launcher.told(coming.loading)
        except LostError as error:
            self._failed(coming, error)
            return
        if told is None:
            return
        if isinstance(told, Failure):
            _log.error("pipeline_not_loaded", pipeline=self._name, why=told.why, fix=told.fix)
            self._failed(coming, PipelineError(told.what, told.why, told.fix))
            return
        self._news(self._name, told)
        if told.differs:
            loss = Loss("selftest", "its self-test differs there", blamed=False, counts=False)
            self._failed(coming, LostError(f"pipeline {self._name}", loss))
            return
        with self._changed:
            if coming in self._coming:
                self._coming.remove(coming)
                self._idle.append(Actor(coming.handle, told))
                self._failures, self._problem, self._not_before = 0, None, 0.0
                self._changed.notify_all()
                return
        self._launcher.kill(coming.handle)

    def _failed(self, coming: _Coming, error: NodeError) -> None:
        now = time.monotonic()
        with self._changed:
            if coming in self._coming:
                self._coming.remove(coming)
            self._failures += 1
            died = isinstance(error, LostError) and error.loss.counts
            if not died or self._failures >= _DEATHS:
                self._problem = (now, error)
                rest = _AFTER_FAILURE * 2 ** min(self._failures - 1, 30)
                self._not_before = now + min(_LONGEST_REST, rest)
            self._changed.notify_all()
        self._launcher.kill(coming.handle)

    def _has_problem(self, since: float) -> bool:
        """Tell whether there will be no actor for who waits since then."""
        if self._problem is None:
            return False
        when, error = self._problem
        hopeless = isinstance(error, PipelineError) and not self._busy and not self._coming
        return when >= since or hopeless

    def _no_room(self) -> LostError:
        limits = self._limits
        waited = timedelta(seconds=limits.place_seconds)
        return LostError(
            f"pipeline {self._name}",
            Loss(
                "no_room",
                f"the Ray cluster had no room for it within {waited.total_seconds():g} s "
                f"({limits.num_cpus:g} CPUs, {limits.num_gpus:g} GPUs an actor)",
                blamed=False,
                counts=False,
                fix="add Ray nodes, or lower `ray.num_gpus`, `num_cpus` or `min_actors`",
            ),
        )
