"""The evaluator of pipelines that classify radiographs: any bundle may name it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from dicom_node.errors import DataFolderError, PipelineError
from dicom_node.inference.guard import Stage
from dicom_node.inference.parts import Parts, build_parts
from dicom_node.model.pipeline import ClassificationOutput
from dicom_node.training.charts import draw_all
from dicom_node.training.contract import Evaluation
from dicom_node.training.figures import classification_figures
from dicom_node.training.images import Case, Reader
from dicom_node.training.table import Row, effective_split, read_table

_BATCH: Final = {"cpu": 4, "cuda": 32}
"""Images at a time: on a CPU more of them fall out of its cache, and 32 take twice as long each."""
_SHOWN: Final = (
    "accuracy", "f1_macro", "f1_weighted", "quadratic_kappa", "mae", "auc_macro", "ece",
    "coverage", "mean_set_size",
)  # fmt: skip


class ClassificationEvaluator:
    """Measures the first classification of a bundle on a table of labelled images.

    Args:
        labels: What the table calls the output's labels, in their order; absent: the labels'
            code values, or their texts.
        columns: Names that the table's column of labels may have.
        refuse: Labels of images that the pipeline should not evaluate.
        ordered: The labels have an order (grades).
        mirror_left: Pictures of left sides are mirrored (`training.images.Reader`).
        reference: Published figures to print beside, with `name`.
    """

    def __init__(
        self,
        labels: Sequence[str] | None = None,
        columns: Sequence[str] = ("label",),
        refuse: Sequence[str] = (),
        ordered: bool = False,
        mirror_left: bool = False,
        reference: Mapping[str, Any] | None = None,
    ) -> None:
        self._labels = None if labels is None else tuple(map(str, labels))
        self._columns = tuple(columns)
        self._refuse = tuple(refuse)
        self._ordered = ordered
        self._mirror_left = mirror_left
        self._reference = dict(reference or {})

    def __call__(self, asked: Evaluation) -> dict[str, Any]:
        """Return the figures; draw the charts where they are asked for.

        Raises:
            DataFolderError: The data cannot be used as it stands.
            PipelineError: The bundle cannot be built, or is none that classifies.
        """
        output = _output(asked)
        labels = self._labels or tuple(label.code.value for label in output.labels)
        if len(labels) != len(output.labels):
            raise PipelineError(
                f"pipeline {asked.bundle.name}: configs/evaluate.yaml",
                f"it names {len(labels)} labels, dicom.yaml has {len(output.labels)}",
                "name every label of the output, in its order",
            )
        known = {name.lower(): n for n, name in enumerate((*labels, *self._refuse))}
        if self._labels is None:
            known |= {label.text.lower(): n for n, label in enumerate(output.labels)}
        rows = read_table(asked.data, self._columns, known, [asked.split])
        # as the node runs it: twice as fast on a CPU; the numbers differ by some 1e-6
        parts = build_parts(asked.bundle, asked.device, channels_last=True, folded=True)
        reader = Reader(asked.bundle.name, parts, asked.device, mirror_left=self._mirror_left)
        began = time.perf_counter()
        told = _Told(output, len(labels))
        for number, case in enumerate(answered(asked, parts, reader.cases(rows)), start=1):
            told.add(case)
            asked.progress(number / len(rows), f"{number} of {len(rows)} images")
        seconds = time.perf_counter() - began
        return self._figures(asked, rows, told, labels, seconds)

    def _figures(
        self,
        asked: Evaluation,
        rows: Sequence[Row],
        told: _Told,
        labels: Sequence[str],
        seconds: float,
    ) -> dict[str, Any]:
        count = len(labels)
        kept = [n for n, row in enumerate(told.rows) if row.label < count]
        if not kept:
            raise DataFolderError(
                str(asked.data),
                f"the pipeline evaluated none of its {len(rows)} images: {told.why()}",
                "these images are not what the pipeline is made for",
            )
        probabilities = np.stack([told.probabilities[n] for n in kept])
        truth = np.array([told.rows[n].label for n in kept])
        figures = classification_figures(
            probabilities,
            truth,
            [told.sets[n] for n in kept],
            labels,
            ordered=self._ordered,
            groups=[told.rows[n].group for n in kept],
            sides=[told.rows[n].side for n in kept],
        )
        wanted = sum(row.label < count for row in rows)
        figures["not_evaluated"] = {
            "n": wanted - len(kept),
            "reasons": dict(told.reasons),
        }
        if self._refuse:
            others = len(rows) - wanted
            let_in = len(told.rows) - len(kept)
            figures["to_be_refused"] = {"n": others, "refused": others - let_in}
        figures["split"] = effective_split(rows, asked.split)
        figures["images_per_second"] = round(len(rows) / seconds, 2)
        figures["table"] = self._table(figures)
        if asked.output is not None:
            charts = draw_all(probabilities, truth, figures["confusion"], labels, asked.output)
            figures["charts"] = [file.name for file in charts]
        return figures

    def _table(self, figures: Mapping[str, Any]) -> list[list[str]]:
        """Rows of name, value, 95 % interval, published value; the first is the heading."""
        beside = str(self._reference.get("name", ""))
        lines = [[f"{figures['n']} images", "value", "95 %", beside]]
        for name in _SHOWN:
            value = figures.get(name)
            if value is None:
                continue
            ends = figures["intervals"].get(name)
            between = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
            lines.append([name, f"{value:.4f}", between, str(self._reference.get(name, ""))])
        for item in figures["per_class"]:
            if item["recall"] is not None:
                name = f"recall of {item['label']} ({item['n']})"
                lines.append([name, f"{item['recall']:.4f}", "", ""])
        for side, of_side in figures.get("by_side", {}).items():
            for name in ("accuracy", "quadratic_kappa"):
                if of_side.get(name) is not None:
                    low, high = of_side["intervals"][name]
                    heading = f"{name} of side {side} ({of_side['n']})"
                    lines.append([heading, f"{of_side[name]:.4f}", f"{low:.3f} to {high:.3f}", ""])
        lines.append(["not evaluated", str(figures["not_evaluated"]["n"]), "", ""])
        if "to_be_refused" in figures:
            gate = figures["to_be_refused"]
            lines.append(["rightly refused", f"{gate['refused']} of {gate['n']}", "", ""])
        return lines if beside else [line[:3] for line in lines]


class _Told:
    """What the pipeline said of the images that it evaluated."""

    def __init__(self, output: ClassificationOutput, count: int) -> None:
        self._output = output
        self._count = count
        self.rows: list[Row] = []
        self.probabilities: list[Any] = []
        self.sets: list[list[int]] = []
        self.reasons: Counter[str] = Counter()

    def add(self, case: Case) -> None:
        if case.data is None:
            if case.row.label < self._count:
                self.reasons[case.refused] += 1
            return
        probabilities = np.asarray(case.data[self._output.key], np.float64).reshape(-1)
        key = self._output.set_key
        held = case.data[key] if key else [int(probabilities.argmax())]
        self.rows.append(case.row)
        self.probabilities.append(probabilities)
        self.sets.append([int(n) for n in held])

    def why(self) -> str:
        return "; ".join(f"{n} times: {why}" for why, n in self.reasons.most_common(3)) or "?"


def _output(asked: Evaluation) -> ClassificationOutput:
    for output in asked.bundle.spec.outputs:
        if isinstance(output, ClassificationOutput):
            return output
    raise PipelineError(
        f"pipeline {asked.bundle.name}",
        "dicom.yaml has no output of type classification",
        "name another evaluator in configs/evaluate.yaml",
    )


def answered(asked: Evaluation, parts: Parts, cases: Iterable[Case]) -> Iterator[Case]:
    """Run network and postprocessing on cases in batches of one shape; the order is kept."""
    waiting = iter(cases)
    size = _BATCH.get(asked.device.type, 1)
    while batch := list(islice(waiting, size)):
        shapes = dict.fromkeys(_shape(case) for case in batch if case.data is not None)
        done: dict[int, Case] = {n: case for n, case in enumerate(batch) if case.data is None}
        for shape in shapes:
            members = [n for n, c in enumerate(batch) if c.data is not None and _shape(c) == shape]
            for n, case in zip(
                members, _run(asked, parts, [batch[n] for n in members]), strict=True
            ):
                done[n] = case
        yield from (done[n] for n in range(len(batch)))


def _shape(case: Case) -> tuple[int, ...]:
    assert case.data is not None
    return tuple(case.data["image"].shape)


def _run(asked: Evaluation, parts: Parts, cases: Sequence[Case]) -> Iterator[Case]:
    name = asked.bundle.name
    batch = torch.stack(
        [torch.as_tensor(c.data["image"]).as_subclass(Tensor) for c in cases if c.data]
    )
    with Stage(name, "network"), torch.inference_mode():
        predicted = parts.inferer(batch.to(asked.device), parts.network)
    for case, own in zip(cases, predicted, strict=True):
        with Stage(name, "postprocessing"):
            data = parts.postprocessing({**(case.data or {}), "pred": own})
        why = data.get("not_evaluated")
        yield Case(case.row, None, why.text) if why is not None else Case(case.row, data)
