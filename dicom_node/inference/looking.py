"""From an image to what the network is to see of it: targets, crops, gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from torch import Tensor

from dicom_node.errors import PipelineError
from dicom_node.inference.as_sent import box_as_sent
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.devices import onto
from dicom_node.inference.guard import Stage
from dicom_node.inference.parts import Parts
from dicom_node.inference.passes import Pending
from dicom_node.inference.presented import presented
from dicom_node.inference.sources import Source
from dicom_node.inference.spans import Spans
from dicom_node.model import own_codes
from dicom_node.model.findings import NotEvaluated, Side, Subject
from dicom_node.model.pipeline import InputKind
from dicom_node.model.side import stated_side
from dicom_node.model.targets import Rejection, Target


class Looking:
    """Finds the targets of an image and prepares each for the network."""

    def __init__(self, bundle: Bundle, parts: Parts, device: torch.device) -> None:
        self.bundle = bundle
        self.spec = bundle.spec
        self._parts = parts
        self._device = device

    def at(self, source: Source, spans: Spans) -> list[Pending | NotEvaluated]:
        """Return what waits for the network, and what is not evaluated and why.

        Raises:
            PipelineError: A part of the bundle raised, or made nonsense.
        """
        if source.values is None:
            why = source.rejection or Rejection(own_codes.UNREADABLE, "it has no pixels")
            return [self.rejected(source, self._whole(source), why)]
        image = MetaTensor(
            onto(self._device, self._as_wanted(source.values)[None]),
            affine=None if source.affine is None else torch.from_numpy(source.affine),
            # channels stand first (MONAI's EnsureChannelFirst asks for it)
            meta={"original_channel_dim": 0, "spacing": source.spacing},
        )
        with spans.of("locate"):
            targets = self._targets(image, source)
        found: list[Pending | NotEvaluated] = []
        for target in targets:
            if isinstance(target, Rejection):
                found.append(self.rejected(source, self._whole(source), target))
            elif target.rejection is not None:
                found.append(self.rejected(source, target, target.rejection))
            else:
                with spans.of("preprocess"):
                    found.append(self._prepared(source, image, target, spans))
        return found

    def _prepared(
        self, source: Source, image: MetaTensor, target: Target, spans: Spans
    ) -> Pending | NotEvaluated:
        data: dict[str, Any] = {
            "image": presented(self.spec.input, image, target),
            "target": target,
            "attributes": source.attributes,
        }
        with self.stage("preprocessing"):
            data = self._parts.preprocessing(data)
        if "not_evaluated" not in data and self._parts.gate is not None:
            with self.stage("gate"):
                rejection = self._parts.gate(data)
            if rejection is not None:
                data["not_evaluated"] = rejection
        if "not_evaluated" in data:
            return self.rejected(source, target, data["not_evaluated"])
        with self.stage("preprocessing"):
            batch = torch.as_tensor(data["image"] if data.get("batched") else data["image"][None])
        return Pending(source, target, data, batch.as_subclass(Tensor), spans)

    def _as_wanted(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values if self.spec.input.compact else values.astype(np.float32, copy=False)

    def _targets(self, image: MetaTensor, source: Source) -> Sequence[Target | Rejection]:
        if self._parts.locator is None:
            return [self._whole(source)]
        with self.stage("locator"):
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

    def subject(self, source: Source, target: Target) -> Subject:
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
            box=box_as_sent(source, images[0], target.box),
            side_source=target.side_source,
        )

    def rejected(self, source: Source, target: Target, why: Rejection) -> NotEvaluated:
        return NotEvaluated(self.subject(source, target), why.reason, why.text)

    @contextmanager
    def stage(self, name: str, spans: Sequence[Spans] = (), span: str = "") -> Iterator[None]:
        """Context of a part of the bundle; what it takes goes in equal shares to `spans`."""
        took = Spans()
        with Stage(self.bundle.name, name), took.of(span):
            yield
        for one in spans:
            one.add(span, took.seconds(span) / len(spans))
