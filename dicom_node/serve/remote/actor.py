"""What runs in a process of Ray: one pipeline, loaded and kept, one job after another.

Whatever happens comes back as plain data: an error that Ray carried would hold values of images in
its trace, and Ray writes those to its logs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
import structlog

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.jobs import Outcome
from dicom_node.inference.local import LocalExecutor
from dicom_node.inference.memory import HostMemoryError, host_memory_is_short
from dicom_node.logs import error_facts, place_of, set_up_logging
from dicom_node.serve.limits import default_memory_mb, lift_memory_limit, limit_memory
from dicom_node.serve.remote.parcel import program_hash, unpacked
from dicom_node.serve.remote.wire import Content, Failure, Order, Ready, RemoteJob

_log = structlog.get_logger()


class PipelineActor:
    """One pipeline on one machine of the cluster.

    Args:
        parcel: Where Ray's object store has each file of the pipeline.
    """

    def __init__(self, order: Order, parcel: Mapping[str, Any]) -> None:
        set_up_logging("actor", json=True)
        self._order = order
        self._parcel = parcel
        self._name = order.manifest.name
        self._executor: LocalExecutor | None = None
        self._node_id = str(ray.get_runtime_context().get_node_id())

    def load(self) -> Ready | Failure:
        """Fetch the pipeline, load it and test it."""
        try:
            return self._load()
        except Exception as error:  # noqa: BLE001 - told as plain data
            return self._failure(error)

    def run(self, job: RemoteJob, contents: Sequence[Content]) -> Outcome | Failure:
        """Run the pipeline on a job's images."""
        try:
            assert self._executor is not None, "it was loaded"
            outcome = self._executor.run(self._name, job.with_images(contents))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a pipeline may raise anything
            return self._failure(error)
        ran_on = {"executor": "ray", "ray": str(ray.__version__), "ray_node": self._node_id}
        return replace(outcome, record={**outcome.record, **ran_on})

    def ping(self) -> bool:
        """Tell that this process lives."""
        return True

    def _load(self) -> Ready:
        order = self._order
        if program_hash() != order.program:
            raise PipelineError(
                f"Ray node {self._node_id[:12]}",
                "it has another dicom-node than the worker",
                "install the same release on every Ray node, then restart them",
            )
        bundle = unpacked(
            order.manifest, lambda name: bytes(ray.get(self._parcel[name])), order.cache_dir
        )
        executor = LocalExecutor(
            {self._name: bundle},
            device=order.device,
            threads=order.threads,
            cpu_fallback=order.cpu_fallback,
            deterministic=order.deterministic,
        )
        if order.memory_mb is not None:
            limit_memory(order.memory_mb)
        elif not executor.on_gpu:
            fit = max(1, int((os.cpu_count() or 1) // max(order.share, 0.01)))
            limit_memory(default_memory_mb(fit))
        loaded = executor.loaded(self._name)
        self._executor = executor
        differs = executor.test(self._name) if order.selftest else None
        device = str(loaded.record()["device"])
        _log.info("pipeline_loaded", pipeline=self._name, device=device, node=self._node_id)
        return Ready(self._node_id, device, differs)

    def _failure(self, error: BaseException) -> Failure:
        short = isinstance(error, HostMemoryError) or host_memory_is_short(error)
        if short:
            lift_memory_limit()
        _log.error("actor_failed", pipeline=self._name, **error_facts(error))
        kind = type(error).__name__
        if isinstance(error, NodeError):
            return Failure(error.what, error.why, error.fix, short, kind)
        return Failure(
            f"pipeline {self._name}",
            f"{kind} at {place_of(error)}",
            f"`dicom-node pipelines check {self._name}`, then `dicom-node retry` the job",
            short,
            kind,
        )
