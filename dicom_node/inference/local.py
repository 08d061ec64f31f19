"""The executor in this process: pipelines stay loaded between jobs."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.devices import device_of, make_deterministic
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.model.pipeline import PipelineSpec

__all__ = ["JobInput", "LocalExecutor", "Outcome"]

_log = structlog.get_logger()


class LocalExecutor:
    """Runs pipelines on one device, warm.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:0" …
        threads: CPU threads; 0 leaves PyTorch's own choice.

    Raises:
        PipelineError: There is no such device.
    """

    def __init__(
        self, bundles: Mapping[str, Bundle], *, device: str = "auto", threads: int = 0
    ) -> None:
        self._bundles = bundles
        self._device = device_of(device)
        self._loaded: dict[str, LoadedPipeline] = {}
        make_deterministic(threads)

    def spec(self, name: str) -> PipelineSpec:
        """Return a pipeline's `dicom.yaml`."""
        return self._bundle(name).spec

    def warm_up(self) -> None:
        """Load every pipeline; one that cannot be loaded is told and leaves the others alone."""
        for name in self._bundles:
            try:
                self._pipeline(name)
            except NodeError as error:
                _log.error("pipeline_not_loaded", pipeline=name, why=error.why, fix=error.fix)
            else:
                _log.info("pipeline_loaded", pipeline=name, device=str(self._device))

    def run(self, name: str, job: JobInput) -> Outcome:
        """Run a pipeline on a job's images.

        Raises:
            PipelineError: It cannot be loaded, it raised, or it made nonsense.
        """
        return self._pipeline(name).run(job)

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
