"""A warm pipeline: from images to Findings, through the bundle's own parts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from dicom_node.errors import PipelineError
from dicom_node.inference.ahead import ahead, in_turn
from dicom_node.inference.as_sent import regions_as_sent
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.devices import record_of
from dicom_node.inference.gathering import Gathering
from dicom_node.inference.grid import Grid, affine_of
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.looking import Looking
from dicom_node.inference.outputs import findings_of
from dicom_node.inference.parts import build_parts
from dicom_node.inference.passes import Passes, Pending, Predicted
from dicom_node.inference.presented import with_prediction
from dicom_node.inference.saliency import METHODS, Explainer, onto_source
from dicom_node.inference.sources import Source, sources_of
from dicom_node.inference.spans import Spans
from dicom_node.inference.tuning import Tuning
from dicom_node.model.findings import (
    Classification,
    Finding,
    NotEvaluated,
    Saliency,
    Subject,
)
from dicom_node.model.pipeline import ClassificationOutput, InputKind, SaliencySpec
from dicom_node.model.targets import SeriesCandidate, SeriesChoice, Target

_ON_CPU: Final = 1
"""On a CPU images pass the network no faster together than one after another (measured)."""
_ON_GPU: Final = 8

_Look = tuple[Gathering, Source | None, Sequence[Pending | NotEvaluated]]
"""An image of a job and what is to be seen of it; without an image: the job's end."""


class LoadedPipeline:
    """One pipeline, loaded once and kept.

    Args:
        device: Where the network runs.
        tuning: How it runs; default: exact, as suits every machine.
        at_once: Radiographs in one pass of the network; 0: as suits the device.

    Raises:
        PipelineError: The bundle cannot be built.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device,
        tuning: Tuning | None = None,
        at_once: int = 0,
    ) -> None:
        self.bundle = bundle
        self.spec = bundle.spec
        self._device = device
        self._tuning = tuning or Tuning()
        self._parts = build_parts(
            bundle,
            device,
            channels_last=self._tuning.channels_last,
            folded=self._tuning.folded,
            quick=True,
        )
        saliency = self.spec.saliency
        explain = (
            Explainer(self._parts.network, saliency.layer, method=saliency.method)
            if saliency
            else None
        )
        self._looking = Looking(bundle, self._parts, device)
        self._passes = Passes(self._parts, device, self._tuning, explain)
        self._is_volume = self.spec.input.kind is InputKind.VOLUME
        self._at_once = at_once or (_ON_GPU if device.type == "cuda" else _ON_CPU)

    def record(self) -> dict[str, Any]:
        """Return what the findings depend on beside the images."""
        return {
            **record_of(self._device, self._tuning.precision),
            "channels_last": self._tuning.channels_last,
            "folded": self._tuning.folded,
            "weights_sha256": self.bundle.weights_sha256,
        }

    @property
    def megabytes(self) -> float:
        """What its weights take on the device."""
        tensors = (*self._parts.network.parameters(), *self._parts.network.buffers())
        return sum(t.numel() * t.element_size() for t in tensors) / 2**20

    def run(self, job: JobInput) -> Outcome:
        """Evaluate a job's images.

        Raises:
            PipelineError: There are no images, a part of the pipeline raised, or made nonsense.
        """
        (outcome,) = self.run_many([job])
        return outcome

    def run_many(self, jobs: Sequence[JobInput]) -> Iterator[Outcome]:
        """Evaluate several jobs, and yield the outcome of each as soon as it is known.

        While the network runs on some images the next ones are read and prepared, and images of
        several jobs pass the network together. The findings of each job are what they are alone.

        Raises:
            PipelineError: As `run` does, at the first job for which it would.
        """
        together = ahead if len(jobs) > 1 and not self._is_volume else in_turn
        steps = self._looks(jobs)
        for step in together(lambda: self._chunk(steps)):
            waiting = [item for _, _, items in step for item in items if isinstance(item, Pending)]
            self._evaluate(waiting)
            for gathering, source, items in step:
                if source is None:
                    yield gathering.outcome(self.record())
                    continue
                found: list[Finding] = []
                for item in items:
                    found += item.found if isinstance(item, Pending) else [item]
                gathering.add(source, found)

    def evaluate(self, source: Source) -> list[Finding]:
        """Evaluate one image or volume.

        Raises:
            PipelineError: A part of the pipeline raised, or made nonsense.
        """
        items = self._looking.at(source, Spans())
        self._evaluate([item for item in items if isinstance(item, Pending)])
        found: list[Finding] = []
        for item in items:
            found += item.found if isinstance(item, Pending) else [item]
        return found

    def _looks(self, jobs: Sequence[JobInput]) -> Iterator[_Look]:
        """Yield each image with what is to be seen of it; a job ends with no image."""
        for job in jobs:
            gathering = Gathering(self.bundle, job)
            sources = sources_of(job, self.spec.input.kind, self._choose)
            while True:
                with gathering.spans.of("decode"):
                    source = next(sources, None)
                if source is None:
                    break
                yield gathering, source, self._looking.at(source, gathering.spans)
            yield gathering, None, ()

    def _chunk(self, steps: Iterator[_Look]) -> list[_Look] | None:
        """Take images for one pass, and the ends of jobs that follow at once."""
        taken: list[_Look] = []
        images = 0
        for step in steps:
            taken.append(step)
            images += step[1] is not None
            # an end alone is told at once, not when the next image is there
            if images >= self._at_once or not images:
                break
        return taken or None

    def _evaluate(self, waiting: Sequence[Pending]) -> None:
        """Run the network on what waits; each gets its findings."""
        passes = self._passes.over(waiting)
        while True:
            begun = time.perf_counter()
            with self._looking.stage("network"):
                passed = next(passes, None)
                if passed is None:
                    return
                for _, prediction in passed.members:
                    self._check_finite(prediction)
            took = time.perf_counter() - begun
            answers = []
            for item, prediction in passed.members:
                item.spans.add("network", took / len(passed.members))
                answers.append(self._answer(item, prediction))
            if any(answer is not None for answer in answers):
                self._explain_all(passed, answers)

    def _answer(self, item: Pending, prediction: Any) -> tuple[int, str] | None:
        """Make the findings of a target; returns which answer a map is to explain, if one is."""
        source, target = item.source, item.target
        assert source.values is not None
        with self._looking.stage("postprocessing", [item.spans], "postprocess"):
            grid = Grid(source.affine, source.references, affine_of(item.data["image"]))
            data = self._parts.postprocessing(with_prediction(item.data, prediction))
        if "not_evaluated" in data:
            item.found = [self._looking.rejected(source, target, data["not_evaluated"])]
            return None
        subject = self._looking.subject(source, target)
        found = findings_of(self.spec, subject, target, data, source.values.shape, grid)
        item.found = regions_as_sent(source, found)
        if self.spec.saliency is None or source.values.ndim != 2:
            return None
        return _explained(self.spec.saliency, self.spec.outputs, item.found)

    def _explain_all(self, passed: Predicted, answers: Sequence[tuple[int, str] | None]) -> None:
        items = [item for item, _ in passed.members]
        with self._looking.stage("saliency", [item.spans for item in items], "saliency"):
            maps = passed.maps([answer[0] if answer else 0 for answer in answers])
            for item, answer, map_ in zip(items, answers, maps, strict=True):
                if answer is not None:
                    subject = self._looking.subject(item.source, item.target)
                    item.found.append(
                        self._saliency(item.source, item.target, subject, map_, answer[1])
                    )

    def _choose(self, candidates: Sequence[SeriesCandidate]) -> SeriesChoice | None:
        """Ask the bundle which series of the study to read; None: all of them."""
        if self._parts.chooser is None:
            return None
        with self._looking.stage("chooser"):
            choice = self._parts.chooser(candidates)
        if not isinstance(choice, SeriesChoice) or not 0 <= choice.index < len(candidates):
            raise PipelineError(
                f"pipeline {self.bundle.name}",
                "its chooser named a series that is not there",
                "correct the chooser",
            )
        return choice

    def _saliency(
        self, source: Source, target: Target, subject: Subject, map_: Any, label: str
    ) -> Saliency:
        assert self.spec.saliency is not None
        assert source.values is not None
        height, width = source.values.shape
        return Saliency(
            subject,
            source.references[0],
            onto_source(map_, (height, width), target.box, target.mirror),
            target=label,
            method=METHODS[self.spec.saliency.method],
            layer=self.spec.saliency.layer,
        )

    def _check_finite(self, prediction: Any) -> None:
        if isinstance(prediction, Tensor):
            if prediction.is_floating_point() and not torch.isfinite(prediction).all():
                raise PipelineError(
                    f"pipeline {self.bundle.name}",
                    "the network's output is not finite",
                    "check the weights and the preprocessing",
                )
        elif isinstance(prediction, Mapping | list | tuple):
            parts = prediction.values() if isinstance(prediction, Mapping) else prediction
            for part in parts:
                self._check_finite(part)


def _explained(
    spec: SaliencySpec, outputs: Sequence[Any], found: Sequence[Finding]
) -> tuple[int, str]:
    """Return the index of the network's output that the map is of, and what it is called."""
    output = next(output for output in outputs if output.key == spec.key)
    if isinstance(output, ClassificationOutput):
        question = output.question.code()
        for item in found:
            if isinstance(item, Classification) and item.question == question:
                return item.predicted, item.labels[item.predicted].text
    return 0, str(getattr(output, "concept", output).meaning)
