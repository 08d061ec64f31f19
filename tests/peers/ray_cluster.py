"""A Ray cluster of the tests' own on this machine: a head without work, nodes that come and go."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dicom_node.demo.ports import free_port
from tests.peers.ports import wait_for

_STORE: Final = 80 * 2**20
"""Bytes of each node's object store; Ray wants no less than 75 MiB."""


class RayCluster:
    """Nodes are raylets of one machine, each with a store of its own (`ray.cluster_utils`)."""

    def __init__(self) -> None:
        self._port = free_port()
        self._client_port = free_port()
        self._cluster: Any = None
        self.start()

    def start(self) -> None:
        """Start the head, at the address that it had."""
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "gcs_server_port": self._port,
                "ray_client_server_port": self._client_port,
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": _STORE,
            },
        )

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def client_address(self) -> str:
        """For a process on a machine that is no node."""
        return f"ray://127.0.0.1:{self._client_port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """For a process that joins it by `address: auto`."""
        return {"RAY_ADDRESS": self.address}

    def add(self, cpus: float = 2) -> Any:
        """Start a node, and wait until the head knows it."""
        return self._cluster.add_node(num_cpus=cpus, object_store_memory=_STORE)

    def kill(self, node: Any) -> None:
        """SIGKILL to a node with all that runs on it, as when a machine loses its power."""
        children = sorted(_descendants(_processes_of(node)))
        self._cluster.remove_node(node, allow_graceful=False)
        wait_for("the end of a Ray node", lambda: not any(map(_lives, children)), 60)

    def node_of(self, pid: int) -> Any:
        """Return the node that an actor's process belongs to."""
        for node in self.nodes():
            if pid in _descendants(_processes_of(node)):
                return node
        raise AssertionError(f"process {pid} belongs to no node")

    def nodes(self) -> list[Any]:
        """Return the nodes that do work."""
        return list(self._cluster.worker_nodes)

    def close(self) -> None:
        """End the head and all nodes."""
        self._cluster.shutdown()


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a head; it and all nodes are gone at the end."""
    before = dict(os.environ)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # short: Unix sockets lie in it, whose names may have 107 characters
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    # not only a node's argument: Ray notes its latest cluster's address in the default folder,
    # which a fresh machine lacks and where a cluster that somebody works with may stand
    os.environ["RAY_TMPDIR"] = str(folder)
    try:
        cluster = RayCluster()
        os.environ.update(cluster.environment)
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _processes_of(node: Any) -> list[int]:
    return [
        info.process.pid
        for infos in node.all_processes.values()
        for info in infos
        if info.process.poll() is None
    ]


def _descendants(pids: list[int]) -> set[int]:
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            waiting += map(int, file.read_text().split())
    return found


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
