"""The executor in this process: pipelines stay loaded between jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping

import structlog
import torch

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
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
    """

    def __init__(
        self, bundles: Mapping[str, Bundle], *, device: str = "auto", threads: int = 0
    ) -> None:
        self._bundles = bundles
        self._device = _device(device)
        self._loaded: dict[str, LoadedPipeline] = {}
        if threads:
            torch.set_num_threads(threads)
        _make_deterministic()

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
            PipelineError: It cannot be loaded, or it raised.
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


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def _make_deterministic() -> None:
    """Same input, same version, same device class: same numbers."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
