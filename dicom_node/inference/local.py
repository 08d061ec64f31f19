"""The executor in this process: pipelines stay loaded between jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import structlog
import torch

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.devices import device_of, make_deterministic
from dicom_node.inference.golden import Deviations, deviations
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.memory import DeviceMemoryError
from dicom_node.inference.tuning import tuning_of
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
        deterministic: See `devices.make_deterministic`.
        model_memory_mb: Weights that stay loaded; beyond it the pipeline that was used longest
            ago is put away until its next job. 0: all stay.
        tunings: Folder with the choices of `pipelines tune`.
        at_once: Radiographs in one pass of a network; 0: as suits the device.

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
        deterministic: bool = True,
        model_memory_mb: float = 0,
        tunings: Path | None = None,
        at_once: int = 0,
    ) -> None:
        self._bundles = bundles
        self._cpu_fallback = cpu_fallback
        self._device = device_of(device)
        # in the order of their use, the one used longest ago first
        self._loaded: dict[str, LoadedPipeline] = {}
        self._model_memory_mb = model_memory_mb
        self._tunings = tunings
        self._at_once = at_once
        make_deterministic(threads, strict=deterministic)

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

    def take(self, bundles: Mapping[str, Bundle]) -> None:
        """Run these from now on; what is loaded and the same stays loaded."""
        for name in [name for name in self._loaded if bundles.get(name) != self._bundles[name]]:
            del self._loaded[name]
        self._bundles = dict(bundles)

    def warm_up(
        self,
        skip: Collection[str] = (),
        around: Callable[[str], AbstractContextManager[object]] = nullcontext,
        stopped: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Load every pipeline; one that cannot be loaded is told and leaves the others alone.

        Args:
            skip: Leave these for their first job.
            around: Context in which each is loaded.
            stopped: Whether to leave the rest.

        Returns:
            Those that were loaded now.
        """
        loaded = []
        for name in [n for n in self._bundles if n not in skip and n not in self._loaded]:
            if stopped():
                break
            try:
                with around(name):
                    self._pipeline(name)
            except NodeError as error:
                _log.error("pipeline_not_loaded", pipeline=name, why=error.why, fix=error.fix)
            else:
                loaded.append(name)
                _log.info("pipeline_loaded", pipeline=name, device=str(self._device))
        return loaded

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

    def run_many(self, name: str, jobs: Sequence[JobInput]) -> Iterator[Outcome]:
        """Run a pipeline on several jobs; yields each outcome as soon as it is known.

        Where a job raises, those behind it have no outcome: `run` takes them one by one.

        Raises:
            PipelineError: As `run` does; also when the GPU's memory does not hold them together.
        """
        yield from self._pipeline(name).run_many(jobs)

    def test(self, name: str) -> Deviations:
        """Run a pipeline on its golden input (`golden.deviations`).

        Raises:
            PipelineError: It cannot be loaded, or it raised.
        """
        return deviations(self._pipeline(name))

    def loaded(self, name: str) -> LoadedPipeline:
        """Return a pipeline, loaded.

        Raises:
            PipelineError: It cannot be loaded.
        """
        return self._pipeline(name)

    def _bundle(self, name: str) -> Bundle:
        if name not in self._bundles:
            raise PipelineError(
                f"pipeline {name}", "this node has none of that name", "add it, or its folder"
            )
        return self._bundles[name]

    def _pipeline(self, name: str) -> LoadedPipeline:
        found = self._loaded.pop(name, None)
        if found is None:
            bundle = self._bundle(name)
            tuning = tuning_of(self._tunings, bundle, self._device)
            found = LoadedPipeline(bundle, self._device, tuning, self._at_once)
        self._loaded[name] = found
        self._put_away()
        return found

    def _put_away(self) -> None:
        """Keep the weights that are loaded within their budget; the last one used stays."""
        while self._model_memory_mb and len(self._loaded) > 1:
            used = sum(pipeline.megabytes for pipeline in self._loaded.values())
            if used <= self._model_memory_mb:
                return
            longest_ago = next(iter(self._loaded))
            del self._loaded[longest_ago]
            _log.info("pipeline_put_away", pipeline=longest_ago, megabytes=round(used, 1))
            if self.on_gpu:
                torch.cuda.empty_cache()
