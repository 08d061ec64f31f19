"""A warm pipeline: from images to Findings, through the bundle's own parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from dicom_node.errors import NodeError, PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.jobs import JobInput, Outcome
from dicom_node.inference.outputs import findings_of, statement_of, summary_of
from dicom_node.inference.parts import build_parts
from dicom_node.inference.saliency import Explainer, crop, onto_source
from dicom_node.inference.sources import Source, radiographs_of, volumes_of
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
from dicom_node.model.pipeline import InputKind
from dicom_node.model.side import stated_side
from dicom_node.model.targets import Rejection, Target


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
            Explainer(self._parts.network, saliency.layer, plus_plus=saliency.method == "gradcam++")
            if saliency
            else None
        )

    def run(self, job: JobInput) -> Outcome:
        """Evaluate a job's images.

        Raises:
            PipelineError: A part of the pipeline raised, or made nonsense.
        """
        volume = self.spec.input.kind is InputKind.VOLUME
        sources = list(volumes_of(job) if volume else radiographs_of(job))
        findings: list[Finding] = []
        for source in sources:
            findings += self._evaluate(source, job)
        if self.spec.summary is not None:
            findings += summary_of(self.spec.summary, self.spec, findings)
        statement = statement_of(self.spec, findings)
        return Outcome(
            Findings(
                algorithm=self.bundle.algorithm(),
                procedure=self.spec.procedure.code(),
                statement=statement,
                images=tuple(_once(ref for source in sources for ref in source.references)),
                items=tuple(findings),
                started=job.started,
            ),
            dict(shown for source in sources for shown in source.pictures()),
            self._record(),
        )

    def _evaluate(self, source: Source, job: JobInput) -> list[Finding]:
        rejection = job.rejection or source.rejection
        if rejection is not None or source.values is None:
            assert rejection is not None
            return [self._rejected(source, self._whole(source), rejection)]
        image = MetaTensor(
            torch.from_numpy(source.values[None]).to(self._device),
            affine=None if source.affine is None else torch.from_numpy(source.affine),
        )
        found: list[Finding] = []
        for number, target in enumerate(self._targets(image, source)):
            if isinstance(target, Rejection):
                whole = self._whole(source)
                name = whole.name if number == 0 else f"{whole.name} {number + 1}"
                found.append(self._rejected(source, Target(name, side=whole.side), target))
            elif target.rejection is not None:
                found.append(self._rejected(source, target, target.rejection))
            else:
                found += self._evaluate_target(source, image, target)
        return found

    def _targets(self, image: MetaTensor, source: Source) -> Sequence[Target | Rejection]:
        if self._parts.locator is None:
            return [self._whole(source)]
        with self._stage("locator"):
            return self._parts.locator(image, source.attributes)

    def _whole(self, source: Source) -> Target:
        side, where = stated_side(source.attributes)
        part = self.spec.anatomy.meaning.lower()
        if self.spec.input.kind is InputKind.VOLUME:
            return Target(name=part, side=Side.NONE)
        name = {Side.RIGHT: f"right {part}", Side.LEFT: f"left {part}"}.get(side, part)
        return Target(name=name, side=side, side_source=where)

    def _evaluate_target(self, source: Source, image: MetaTensor, target: Target) -> list[Finding]:
        planar = source.values is not None and source.values.ndim == 2
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
        batched = bool(data.get("batched"))
        batch = data["image"] if batched else data["image"][None]
        batch = torch.as_tensor(batch).as_subclass(torch.Tensor).to(self._device)
        with self._stage("network"), torch.inference_mode():
            prediction = self._parts.inferer(batch, self._parts.network)
            if isinstance(prediction, Tensor) and not torch.isfinite(prediction).all():
                raise PipelineError(
                    f"pipeline {self.bundle.name}",
                    "the network's output is not finite",
                    "check the weights and the input",
                )
            data["pred"] = prediction if batched else prediction[0]
        with self._stage("postprocessing"):
            data = self._parts.postprocessing(data)
        if "not_evaluated" in data:
            return [self._rejected(source, target, data["not_evaluated"])]
        subject = self._subject(source, target)
        found = findings_of(self.spec, subject, data)
        if self._explain is not None and planar:
            with self._stage("saliency"):
                found.append(self._saliency(source, target, subject, found, batch))
        return found

    def _saliency(
        self,
        source: Source,
        target: Target,
        subject: Subject,
        found: Sequence[Finding],
        batch: Tensor,
    ) -> Saliency:
        assert self._explain is not None
        assert self.spec.saliency is not None
        assert source.values is not None
        answer = next((f for f in found if isinstance(f, Classification)), None)
        index = answer.predicted if answer else 0
        label = answer.labels[index].text if answer else self.spec.saliency.key
        map_ = self._explain(batch, index)
        height, width = source.values.shape
        return Saliency(
            subject,
            source.references[0],
            onto_source(map_, (height, width), target.box, target.mirror),
            target=label,
            method="Grad-CAM" if self.spec.saliency.method == "gradcam" else "Grad-CAM++",
            layer=self.spec.saliency.layer,
        )

    def _subject(self, source: Source, target: Target) -> Subject:
        images = source.references
        if target.slices:
            images = tuple(source.references[n] for n in target.slices)
        several = source.label and self.spec.input.kind is InputKind.RADIOGRAPH
        return Subject(
            name=f"{target.name} ({source.label})" if several else target.name,
            anatomy=target.anatomy or self.spec.anatomy.code(),
            side=target.side,
            images=images,
            box=target.box,
            side_source=target.side_source,
        )

    def _rejected(self, source: Source, target: Target, why: Rejection) -> NotEvaluated:
        return NotEvaluated(self._subject(source, target), why.reason, why.text)

    def _record(self) -> Mapping[str, Any]:
        import monai

        return {
            "device": str(self._device),
            "precision": "float32",
            "torch": torch.__version__,
            "monai": monai.__version__,
            "weights_sha256": self.bundle.weights_sha256,
        }

    def _stage(self, name: str) -> _Stage:
        return _Stage(self.bundle.name, name)


class _Stage:
    """Names the stage in which a bundle's own code raised."""

    def __init__(self, pipeline: str, stage: str) -> None:
        self._pipeline = pipeline
        self._stage = stage

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, NodeError):
            # the message may quote the input's attributes: it is left out
            raise PipelineError(
                f"pipeline {self._pipeline}",
                f"its {self._stage} raised {type(error).__name__}",
                f"`dicom-node pipelines check {self._pipeline}` runs it on simulated input",
            ) from error


def _once(references: Iterator[ImageReference]) -> list[ImageReference]:
    return list(dict.fromkeys(references))
