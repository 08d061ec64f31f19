"""The executor in this process: pipelines stay loaded between jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import structlog
import torch

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.devices import device_of, make_deterministic
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.memory import DeviceMemoryError
from dicom_node.model.findings import Algorithm
from dicom_node.model.pipeline import PipelineSpec

__all__ = ["JobInput", "LocalExecutor", "Outcome"]

_log = structlog.get_logger()


class LocalExecutor:
    """Runs pipelines on one device, warm.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:0" …
        threads: CPU threads; 0 leaves PyTorch's own choice.
        cpu_fallback: A job that the GPU's memory cannot hold runs on the CPU.

    Raises:
        PipelineError: There is no such device.
    """

    def __init__(
        self,
        bundles: Mapping[str, Bundle],
        *,
        device: str = "auto",
        threads: int = 0,
        cpu_fallback: bool = False,
    ) -> None:
        self._bundles = bundles
        self._cpu_fallback = cpu_fallback
        self._device = device_of(device)
        self._loaded: dict[str, LoadedPipeline] = {}
        make_deterministic(threads)

    @property
    def on_gpu(self) -> bool:
        """Whether networks run on a GPU."""
        return self._device.type != "cpu"

    def spec(self, name: str) -> PipelineSpec:
        """Return a pipeline's `dicom.yaml`."""
        return self._bundle(name).spec

    def algorithm(self, name: str) -> Algorithm:
        """Return how a pipeline's model is named in its results."""
        return self._bundle(name).algorithm()

    def warm_up(
        self,
        skip: Collection[str] = (),
        around: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Load every pipeline; one that cannot be loaded is told and leaves the others alone.

        Args:
            skip: Leave these for their first job.
            around: Context in which each is loaded.
        """
        for name in [name for name in self._bundles if name not in skip]:
            try:
                with around(name):
                    self._pipeline(name)
            except NodeError as error:
                _log.error("pipeline_not_loaded", pipeline=name, why=error.why, fix=error.fix)
            else:
                _log.info("pipeline_loaded", pipeline=name, device=str(self._device))

    def run(self, name: str, job: JobInput) -> Outcome:
        """Run a pipeline on a job's images; on the CPU when the GPU's memory is too small.

        Raises:
            PipelineError: It cannot be loaded, it raised, or it made nonsense.
        """
        try:
            return self._pipeline(name).run(job)
        except DeviceMemoryError as error:
            if not self._cpu_fallback:
                raise
            _log.warning("job_moved_to_cpu", pipeline=name, device=str(self._device), why=error.why)
        # outside of the handler: its error keeps the tensors of the failed attempt alive
        torch.cuda.empty_cache()
        outcome = LoadedPipeline(self._bundle(name), torch.device("cpu")).run(job)
        why = f"the memory of {self._device} was too small"
        return replace(outcome, record={**outcome.record, "fallback": why})

    def _bundle(self, name: str) -> Bundle:
        if name not in self._bundles:
            raise PipelineError(
                f"pipeline {name}", "this node has none of that name", "add it, or its folder"
            )
        return self._bundles[name]

    def _pipeline(self, name: str) -> LoadedPipeline:
        if name not in self._loaded:
            self._loaded[name] = LoadedPipeline(self._bundle(name), self._device)
        return self._loaded[name]
