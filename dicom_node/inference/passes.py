"""The network's pass over what waits: targets of one shape together, each with its own rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor

from dicom_node.inference.memory import infer
from dicom_node.inference.parts import Parts
from dicom_node.inference.saliency import Explainer, Map
from dicom_node.inference.sources import Source
from dicom_node.inference.spans import Spans
from dicom_node.inference.tuning import Tuning
from dicom_node.model.findings import Finding
from dicom_node.model.targets import Target


@dataclass(slots=True, eq=False)
class Pending:
    """A target that waits for the network.

    Attributes:
        data: What preprocessing made of it.
        batch: [n, C, ...]: its rows of a batch.
        spans: Of its job.
        found: Its findings, once they are known.
    """

    source: Source
    target: Target
    data: dict[str, Any]
    batch: Tensor
    spans: Spans
    found: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """One pass: its members with their part of the prediction, and the maps on demand.

    Attributes:
        maps: From the answer explained of each member to a map [h, w] of each.
    """

    members: Sequence[tuple[Pending, Any]]
    maps: Callable[[Sequence[int]], list[Map]]


class Passes:
    """Runs a network on what waits.

    Args:
        explain: Grad-CAM of the network; None: there is no map to make.
    """

    def __init__(
        self, parts: Parts, device: torch.device, tuning: Tuning, explain: Explainer | None
    ) -> None:
        self._parts = parts
        self._device = device
        self._tuning = tuning
        self._explain = explain
        # of an inferer that cuts the image up, no single pass knows the whole
        self._shares = type(parts.inferer) is SimpleInferer

    def over(self, waiting: Sequence[Pending]) -> Iterator[Predicted]:
        """Yield the passes over what waits, in the order of their first members."""
        groups: dict[object, list[Pending]] = {}
        for item in waiting:
            # volumes fill the memory one at a time
            together = self._shares and item.batch.ndim == 4
            key = (item.batch.shape[1:], item.batch.dtype) if together else id(item)
            groups.setdefault(key, []).append(item)
        for members in groups.values():
            yield from self._passed(members)

    def _passed(self, members: Sequence[Pending]) -> Iterator[Predicted]:
        batch = torch.cat([item.batch for item in members]) if members[1:] else members[0].batch
        with contextlib.ExitStack() as stack:
            watching = self._explain is not None and self._shares
            seen = (
                stack.enter_context(self._explain.watching())
                if self._explain is not None and watching
                else None
            )
            if seen is None:
                stack.enter_context(torch.inference_mode())
            prediction = self._infer(batch)
        if len(members) > 1 and not _has_rows(prediction, len(batch)):
            # a network whose output is not one row for each input runs on each alone
            for item in members:
                yield from self._passed([item])
            return
        sizes = [len(item.batch) for item in members]
        firsts = [sum(sizes[:n]) for n in range(len(sizes))]

        def maps(indices: Sequence[int]) -> list[Map]:
            shape = batch.shape[2:]
            if self._explain is None:
                return []
            if seen is None or not isinstance(prediction, Tensor):
                return [
                    self._explain(item.batch, index)
                    for item, index in zip(members, indices, strict=True)
                ]
            rows = [n for n, size in zip(indices, sizes, strict=True) for _ in range(size)]
            made = seen.maps(prediction, rows, shape)
            return [made[first] for first in firsts]

        if len(members) == 1:
            yield Predicted([(members[0], _plain(prediction))], maps)
            return
        yield Predicted(
            [
                (item, _plain(_rows(prediction, first, first + size)))
                for item, first, size in zip(members, firsts, sizes, strict=True)
            ],
            maps,
        )

    def _infer(self, batch: Tensor) -> Any:
        batch = batch.to(self._device, non_blocking=True)
        if self._tuning.channels_last and batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with self._tuning.autocast(self._device.type):
            return infer(lambda part: self._parts.inferer(part, self._parts.network), batch)


def _has_rows(prediction: Any, rows: int) -> bool:
    if isinstance(prediction, Tensor):
        return prediction.ndim > 0 and len(prediction) == rows
    if isinstance(prediction, Mapping):
        return all(_has_rows(value, rows) for value in prediction.values())
    return False


def _rows(prediction: Any, first: int, last: int) -> Any:
    if isinstance(prediction, Mapping):
        return {key: _rows(value, first, last) for key, value in prediction.items()}
    return prediction[first:last]


def _plain(prediction: Any) -> Any:
    """Return it without its graph, and in the precision that postprocessing expects."""
    if isinstance(prediction, Tensor):
        found = prediction.detach()
        return found.float() if found.is_floating_point() else found
    if isinstance(prediction, Mapping):
        return {key: _plain(value) for key, value in prediction.items()}
    if isinstance(prediction, list):
        return [_plain(value) for value in prediction]
    if isinstance(prediction, tuple):
        return tuple(_plain(value) for value in prediction)
    return prediction
