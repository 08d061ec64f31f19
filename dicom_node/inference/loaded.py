"""A warm pipeline: from images to Findings, through the bundle's own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.devices import record_of
from dicom_node.inference.guard import Stage
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.memory import infer
from dicom_node.inference.naming import told_apart
from dicom_node.inference.outputs import findings_of, summary_of
from dicom_node.inference.parts import build_parts
from dicom_node.inference.saliency import METHODS, Explainer, crop, onto_source
from dicom_node.inference.sources import Pictures, Source, considered, sources_of
from dicom_node.inference.statement import statement_of
from dicom_node.model import own_codes
from dicom_node.model.findings import (
    Classification,
    Finding,
    Findings,
    ImageReference,
    NotEvaluated,
    Saliency,
    Side,
    Subject,
)
from dicom_node.model.pipeline import ClassificationOutput, InputKind, SaliencySpec
from dicom_node.model.side import stated_side
from dicom_node.model.targets import Rejection, SeriesCandidate, SeriesChoice, Target


class LoadedPipeline:
    """One pipeline, loaded once and kept.

    Args:
        device: Where the network runs.

    Raises:
        PipelineError: The bundle cannot be built.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.spec = bundle.spec
        self._device = device
        self._parts = build_parts(bundle, device)
        saliency = self.spec.saliency
        self._explain = (
            Explainer(self._parts.network, saliency.layer, method=saliency.method)
            if saliency
            else None
        )

    def run(self, job: JobInput) -> Outcome:
        """Evaluate a job's images, one after the other.

        Raises:
            PipelineError: There are no images, a part of the pipeline raised, or made nonsense.
        """
        if not job.files or len(job.files) != len(job.facts):
            raise PipelineError(
                f"pipeline {self.bundle.name}", "the job has no images", "send the study again"
            )
        volume = self.spec.input.kind is InputKind.VOLUME
        found: list[tuple[str, list[Finding]]] = []
        references: dict[ImageReference, None] = {}
        pictures: Pictures = {}
        notes: dict[str, None] = {}
        for source in sources_of(job, self.spec.input.kind, self._choose):
            items = self._evaluate(source)
            if volume:
                items += summary_of(self.spec, items)
            found.append((source.label, items))
            references.update(dict.fromkeys(source.references))
            pictures.update(source.pictures)
            notes.update(dict.fromkeys(source.notes))
        findings = told_apart(found)
        if not volume:
            findings += summary_of(self.spec, findings)
        return Outcome(
            Findings(
                algorithm=self.bundle.algorithm(),
                procedure=self.spec.procedure.code(),
                statement=statement_of(self.spec, findings),
                images=considered(job) if job.rejection else tuple(references),
                items=tuple(findings),
                started=job.started,
                notes=tuple(notes),
            ),
            pictures,
            {**record_of(self._device), "weights_sha256": self.bundle.weights_sha256},
        )

    def _choose(self, candidates: Sequence[SeriesCandidate]) -> SeriesChoice | None:
        """Ask the bundle which series of the study to read; None: all of them."""
        if self._parts.chooser is None:
            return None
        with self._stage("chooser"):
            choice = self._parts.chooser(candidates)
        if not isinstance(choice, SeriesChoice) or not 0 <= choice.index < len(candidates):
            raise PipelineError(
                f"pipeline {self.bundle.name}",
                "its chooser named a series that is not there",
                "correct the chooser",
            )
        return choice

    def _evaluate(self, source: Source) -> list[Finding]:
        if source.values is None:
            why = source.rejection or Rejection(own_codes.UNREADABLE, "it has no pixels")
            return [self._rejected(source, self._whole(source), why)]
        image = MetaTensor(
            torch.from_numpy(source.values[None]).to(self._device),
            affine=None if source.affine is None else torch.from_numpy(source.affine),
            # channels stand first (MONAI's EnsureChannelFirst asks for it)
            meta={"original_channel_dim": 0, "spacing": source.spacing},
        )
        found: list[Finding] = []
        for target in self._targets(image, source):
            if isinstance(target, Rejection):
                found.append(self._rejected(source, self._whole(source), target))
            elif target.rejection is not None:
                found.append(self._rejected(source, target, target.rejection))
            else:
                found += self._evaluate_target(source, image, target)
        return found

    def _targets(self, image: MetaTensor, source: Source) -> Sequence[Target | Rejection]:
        if self._parts.locator is None:
            return [self._whole(source)]
        with self._stage("locator"):
            targets = list(self._parts.locator(image, source.attributes))
        for target in targets:
            box = target.box if isinstance(target, Target) else None
            if not isinstance(target, Target | Rejection) or (box and min(box[2:]) < 1):
                raise PipelineError(
                    f"pipeline {self.bundle.name}",
                    "its locator returned something that is no target, or an empty box",
                    "correct the locator",
                )
        part = self.spec.anatomy.meaning.lower()
        nothing = Rejection(own_codes.NOTHING_FOUND, f"no {part} was found in the image")
        return targets or [nothing]

    def _whole(self, source: Source) -> Target:
        """The whole image as a target, with the side that its attributes state."""
        part = self.spec.anatomy.meaning.lower()
        if self.spec.input.kind is InputKind.VOLUME:
            return Target(name=part, side=Side.NONE)
        side, where = stated_side(source.attributes)
        name = {Side.RIGHT: f"right {part}", Side.LEFT: f"left {part}"}.get(side, part)
        return Target(name=name, side=side, side_source=where)

    def _evaluate_target(self, source: Source, image: MetaTensor, target: Target) -> list[Finding]:
        assert source.values is not None
        planar = source.values.ndim == 2
        data: dict[str, Any] = {
            "image": crop(image, target.box, target.mirror) if planar else image,
            "target": target,
            "attributes": source.attributes,
        }
        with self._stage("preprocessing"):
            data = self._parts.preprocessing(data)
        if "not_evaluated" not in data and self._parts.gate is not None:
            with self._stage("gate"):
                rejection = self._parts.gate(data)
            if rejection is not None:
                data["not_evaluated"] = rejection
        if "not_evaluated" in data:
            return [self._rejected(source, target, data["not_evaluated"])]
        with self._stage("network"):
            batch = torch.as_tensor(data["image"] if data.get("batched") else data["image"][None])
            batch = batch.as_subclass(Tensor).to(self._device)
            with torch.inference_mode():
                prediction = infer(
                    lambda part: self._parts.inferer(part, self._parts.network), batch
                )
            self._check_finite(prediction)
            data["pred"] = prediction if data.get("batched") else _first(prediction)
        with self._stage("postprocessing"):
            data = self._parts.postprocessing(data)
        if "not_evaluated" in data:
            return [self._rejected(source, target, data["not_evaluated"])]
        subject = self._subject(source, target)
        found = findings_of(self.spec, subject, target, data, source.values.shape)
        if self._explain is not None and self.spec.saliency is not None and planar:
            index, label = _explained(self.spec.saliency, self.spec.outputs, found)
            with self._stage("saliency"):
                map_ = self._explain(batch, index)
            found.append(self._saliency(source, target, subject, map_, label))
        return found

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

    def _subject(self, source: Source, target: Target) -> Subject:
        try:
            images = tuple(source.references[n] for n in target.slices) or source.references
        except IndexError:
            raise PipelineError(
                f"pipeline {self.bundle.name}",
                f"its target {target.name} names slices that the volume does not have",
                "correct the locator",
            ) from None
        return Subject(
            name=target.name,
            anatomy=target.anatomy or self.spec.anatomy.code(),
            side=target.side,
            images=images,
            box=target.box,
            side_source=target.side_source,
        )

    def _rejected(self, source: Source, target: Target, why: Rejection) -> NotEvaluated:
        return NotEvaluated(self._subject(source, target), why.reason, why.text)

    def _stage(self, name: str) -> Stage:
        return Stage(self.bundle.name, name)


def _first(prediction: Any) -> Any:
    """Take the batch dimension off whatever a network returns."""
    if isinstance(prediction, Mapping):
        return {key: _first(value) for key, value in prediction.items()}
    if isinstance(prediction, list | tuple):
        return [_first(value) for value in prediction]
    return prediction[0]


def _explained(
    spec: SaliencySpec, outputs: Sequence[Any], found: Sequence[Finding]
) -> tuple[int, str]:
    """Return the index of the network's output that the map is of, and what it is called."""
    for output, item in zip(outputs, found, strict=True):
        if output.key != spec.key:
            continue
        if isinstance(output, ClassificationOutput) and isinstance(item, Classification):
            return item.predicted, item.labels[item.predicted].text
        return 0, str(getattr(output, "concept", output).meaning)
    return 0, spec.key
