"""Figures of an osteoporosis pipeline on a folder of labelled radiographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from dicom_node.errors import DataFolderError
from dicom_node.inference.parts import build_parts
from dicom_node.training.charts import draw_all
from dicom_node.training.classification import answered
from dicom_node.training.contract import Evaluation
from dicom_node.training.figures import auc, classification_figures
from dicom_node.training.images import Reader
from dicom_node.training.table import Row, effective_split, read_table
from pipelines.osteoporosis.data import CLASSES, COLUMNS, LABELS, UNKNOWN, labels_of
from pipelines.osteoporosis.figures import figures_of

_SHOWN: Final = ("auc", "accuracy", "sensitivity", "specificity")


class OsteoporosisEvaluator:
    """Measures a pipeline on whole radiographs: joint finder and gate take part.

    The two-class label gives AUC, accuracy, sensitivity and specificity; images whose label is
    certain give calibration and prediction sets, and, of a three-class pipeline, its classes.

    Args:
        reference: Published figures to print beside, with `name`.
    """

    def __init__(self, reference: Mapping[str, Any] | None = None) -> None:
        self._reference = dict(reference or {})

    def __call__(self, asked: Evaluation) -> dict[str, Any]:
        """Return the figures; draw the charts where they are asked for.

        Raises:
            DataFolderError: The table cannot be used, or no image was evaluated.
            PipelineError: The bundle cannot be built.
        """
        rows = read_table(asked.data, COLUMNS, LABELS, [asked.split])
        parts = build_parts(asked.bundle, asked.device)
        reader = Reader(asked.bundle.name, parts, asked.device, locate=True)
        kept: list[Row] = []
        probabilities, sets = [], []
        refused: Counter[str] = Counter()
        for number, case in enumerate(answered(asked, parts, reader.cases(rows)), start=1):
            asked.progress(number / len(rows), f"{number} of {len(rows)} images")
            if case.data is None:
                refused[case.refused] += 1
                continue
            kept.append(case.row)
            probabilities.append(torch.as_tensor(case.data["probabilities"]).double().numpy())
            sets.append([int(n) for n in case.data["prediction_set"]])
        if not kept:
            raise DataFolderError(
                str(asked.data),
                f"the pipeline evaluated none of its {len(rows)} images: {dict(refused)}",
                "these images are not what the pipeline is made for",
            )
        found = self._figures(asked, kept, np.stack(probabilities), sets)
        found["not_evaluated"] = {"n": len(rows) - len(kept), "reasons": dict(refused)}
        found["table"] = self._table(found)
        found["split"] = effective_split(rows, asked.split)
        return found

    def _figures(
        self, asked: Evaluation, rows: list[Row], probabilities: Any, sets: list[list[int]]
    ) -> dict[str, Any]:
        two, three = labels_of(asked.data, rows)
        names = [row.group or f"line {row.line}" for row in rows]
        groups = np.unique(names, return_inverse=True)[1]
        found = figures_of(probabilities, two, three, groups)
        if probabilities.shape[1] == 2:
            labels, truth, certain = (CLASSES[0], CLASSES[2]), two, np.ones(len(two), bool)
        else:
            labels, truth, certain = CLASSES, three, three != UNKNOWN
        if certain.any():
            chosen = np.flatnonzero(certain)
            known = classification_figures(
                probabilities[chosen],
                truth[chosen],
                [sets[n] for n in chosen],
                labels,
                groups=[names[n] for n in chosen],
            )
            kept = ("ece", "coverage", "mean_set_size", "f1_macro", "per_class", "confusion")
            found |= {name: known[name] for name in kept}
            found["intervals"] = known["intervals"]
            if asked.output is not None:
                charts = draw_all(
                    probabilities[chosen], truth[chosen], known["confusion"], labels, asked.output
                )
                found["charts"] = [file.name for file in charts]
        sides = np.array([row.side for row in rows])
        found["by_side"] = {
            side: {"n": int((sides == side).sum()), "auc": _auc_of(probabilities, two, sides, side)}
            for side in np.unique(sides).tolist()
        }
        return found

    def _table(self, found: Mapping[str, Any]) -> list[list[str]]:
        """Rows of name, value, 95 % interval, published value; the first is the heading."""
        beside = str(self._reference.get("name", ""))
        lines = [[f"{found['n']} images", "value", "95 %", beside]]
        for name in _SHOWN:
            ends = found["auc_95"] if name == "auc" else None
            between = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
            value = found[name]
            if value is not None:
                lines.append([name, f"{value:.4f}", between, str(self._reference.get(name, ""))])
        three = found.get("three_classes")
        if three:
            low, high = three["intervals"]["accuracy"]
            lines.append([
                f"accuracy of three classes ({three['n']})", f"{three['accuracy']:.4f}",
                f"{low:.3f} to {high:.3f}", str(self._reference.get("three_classes", "")),
            ])  # fmt: skip
        for name in ("ece", "coverage", "mean_set_size"):
            if name in found:
                lines.append([name, f"{found[name]:.4f}", "", ""])
        lines.append(["not evaluated", str(found["not_evaluated"]["n"]), "", ""])
        return lines if beside else [line[:3] for line in lines]


def _auc_of(probabilities: Any, two: Any, sides: Any, side: str) -> float | None:
    chosen = sides == side
    return auc(1 - probabilities[chosen, 0], two[chosen] == 1)
