"""The Ray cluster: whether it is there, joining it, and noticing when it is gone."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import structlog

from dicom_node.errors import ConfigError, NodeError
from dicom_node.logs import error_facts

_log = structlog.get_logger()

_NO_STATISTICS: Final = "RAY_USAGE_STATS_ENABLED"
"""Variable by which Ray is told to tell nobody of its use."""
_ASKS_EVERY: Final = 2.0
_PATIENCE: Final = 20.0
"""Seconds without an answer of the cluster's head; Ray itself ends the process after 60."""
_PROBE: Final = 3.0


class ClusterAwayError(NodeError):
    """The Ray cluster does not answer: it is not there, or not any more."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(
            f"Ray cluster {address}",
            why,
            "start it, or correct `ray.address`; jobs wait meanwhile and nothing is lost",
        )


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        ConfigError: It is not.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            "inference.executor: ray",
            "the package ray is not installed here",
            "pip install 'dicom-node[ray]', or set `inference.executor: local`",
        )


def probe(address: str) -> str:
    """Check that something listens at the cluster's address; returns where, in words.

    Before Ray is asked: it takes minutes to find that nobody is there, and then ends the process.

    Raises:
        ClusterAwayError: Nothing does, or no Ray node runs on this machine.
    """
    where = address.removeprefix("ray://")
    if address == "auto":
        folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
        try:
            where = os.environ.get("RAY_ADDRESS") or (folder / "ray_current_cluster").read_text()
        except OSError:
            raise ClusterAwayError(address, "no Ray node runs on this machine") from None
        where = where.strip().removeprefix("ray://")
    host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ClusterAwayError(address, f"nothing answers at {where}: {why}") from None
    return where


class Cluster:
    """This process as one that gives work to a Ray cluster. Safe for threads.

    A process joins once: after the cluster was away it ends, and its successor joins anew.

    Args:
        patience: Seconds without an answer after which the cluster counts as away.
    """

    def __init__(self, address: str, patience: float = _PATIENCE) -> None:
        self.address = address
        self._patience = patience
        self._nodes: Mapping[str, bool] = {}
        self._resources: list[Mapping[str, float]] = []
        self._heard = time.monotonic()
        self._broken = False
        self._end = threading.Event()

    def join(self) -> None:
        """Join it, from the main thread.

        Raises:
            ClusterAwayError: It is not there.
        """
        probe(self.address)
        os.environ.setdefault(_NO_STATISTICS, "0")
        import ray

        # Ray puts its own handlers in place of ours
        kept = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT)}
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            why = f"it cannot be joined ({type(error).__name__})"
            raise ClusterAwayError(self.address, why) from None
        finally:
            for sign, handler in kept.items():
                signal.signal(sign, handler)
        self._look()
        atexit.register(self._leave_at_exit)
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()
        _log.info("ray_joined", address=self.address, nodes=sum(self._nodes.values()))

    @property
    def is_away(self) -> bool:
        """Whether it has not answered for too long, or the connection is broken."""
        return self._broken or time.monotonic() - self._heard > self._patience

    def has_lost(self, node_id: str, within: float) -> bool:
        """Tell whether a machine is lost, or is found to be within so many seconds."""
        end = time.monotonic() + within
        self._look()
        while self._nodes.get(node_id, False) and not self.is_away:
            if time.monotonic() >= end:
                return False
            self._end.wait(0.2)
            self._look()
        return True

    def seen(self) -> str:
        """Say what the cluster has, in words."""
        cpus = sum(one.get("CPU", 0) for one in self._resources)
        gpus = sum(one.get("GPU", 0) for one in self._resources)
        number = sum(self._nodes.values())
        return f"{number} node{'' if number == 1 else 's'}, {cpus:g} CPUs, {gpus:g} GPUs"

    def largest(self, resource: str) -> float:
        """Return how much of a resource the node has that has most of it."""
        return max((float(one.get(resource, 0)) for one in self._resources), default=0.0)

    def leave(self) -> None:
        """Leave it: what we run there ends."""
        self._end.set()
        if not self.is_away:
            import ray

            atexit.unregister(self._leave_at_exit)
            ray.shutdown()

    def _leave_at_exit(self) -> None:
        self._end.set()
        if self.is_away:
            # Ray's own end would wait a minute for a cluster that does not answer
            os._exit(1)

    def _watch(self) -> None:
        while not self._end.wait(_ASKS_EVERY):
            self._look()

    def _look(self) -> None:
        import ray

        try:
            nodes: list[dict[str, Any]] = ray.nodes()
        except Exception as error:  # noqa: BLE001 - whatever gRPC raises: it is away
            if not self._end.is_set():
                self._broken = True
                _log.warning("ray_not_heard", **error_facts(error))
            return
        self._nodes = {str(node["NodeID"]): bool(node["Alive"]) for node in nodes}
        self._resources = [node.get("Resources", {}) for node in nodes if node["Alive"]]
        self._heard = time.monotonic()
