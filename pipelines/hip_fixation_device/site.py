"""Training and evaluation on a site's own hips: the bundle's catalogue names the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from dicom_node.errors import DataFolderError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.calibration import to_metadata
from dicom_node.inference.parts import build_untrained
from dicom_node.training.classification import ClassificationEvaluator
from dicom_node.training.contract import Evaluation, Trained, Training
from dicom_node.training.images import Reader
from dicom_node.training.table import Row, read_table
from dicom_node.training.whole import whole
from pipelines.hip_fixation_device.data import AFTER_THE_CATALOGUE, CATALOGUE, NOT_AP, labels_of
from pipelines.hip_fixation_device.train import CALIBRATED, calibration, evaluate, train

_ANSWER = "postprocessing::transforms::0"


def labels_for(bundle: Bundle) -> tuple[str, ...]:
    """Return the keys of the bundle's own catalogue, in the network's output order."""
    own = bundle.folder / CATALOGUE.name
    return labels_of(own if own.is_file() else CATALOGUE)


def site_evaluator(asked: Evaluation) -> dict[str, Any]:
    """Measure on a site's hips; images labelled `not_ap` are to be refused."""
    labels = labels_for(asked.bundle)
    return ClassificationEvaluator(labels[:-1], refuse=(NOT_AP,))(asked)


class SiteTrainer:
    """Trains the network anew on one hip an image."""

    def __call__(self, asked: Training) -> Trained:
        """Train, calibrate on `val`, write `weights.safetensors`.

        Raises:
            DataFolderError: The table or an image cannot be used.
        """
        labels = labels_for(asked.bundle)
        known = {label.lower(): n for n, label in enumerate(labels)}
        tables = [read_table(asked.data, ["label"], known, [split]) for split in ("train", "val")]
        if tables[0] == tables[1]:
            raise DataFolderError(
                str(asked.data / "labels.csv"),
                "it has no column `split`: training needs rows of train and of val",
                "add the column; no patient may be in both",
            )
        images, truth = _read(asked, tables[0])
        held_images, held = _read(asked, tables[1])
        counts = np.bincount(truth, minlength=len(labels))
        asked.watch.note(f"{dict(zip(labels, counts.tolist(), strict=True))}")
        if not (held < len(labels) - len(AFTER_THE_CATALOGUE)).any():
            asked.watch.note("val shows no device of the catalogue: the calibration says little")
        torch.manual_seed(int(asked.settings["seed"]))
        network = train(
            images,
            torch.from_numpy(truth),
            len(labels),
            asked.settings,
            checkpoint=asked.output / "checkpoint.pt",
            seconds=asked.seconds,
            device=asked.device,
            watch=asked.watch.step,
        )
        halves = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in network.state_dict().items()
        }
        network.load_state_dict(halves)
        found = calibration(evaluate(network, held_images), held)
        return _written(halves, found, asked.output / "weights.safetensors")


def _written(halves: Mapping[str, Tensor], found: Mapping[str, float], file: Path) -> Trained:
    numbers = {f"{_ANSWER}::{key}": found[key] for key in CALIBRATED}
    with whole(file) as partial:
        save_file(dict(halves), partial, to_metadata(numbers))
    return Trained(file, found)


def _read(asked: Training, rows: Sequence[Row]) -> tuple[Tensor, Any]:
    """Images [N, 1, 256, 256] as the pipeline's preprocessing makes them, and label indices."""
    parts = build_untrained(asked.bundle, torch.device("cpu"))
    images, truth = [], []
    for case in Reader(asked.bundle.name, parts, torch.device("cpu")).cases(rows):
        if case.data is None:
            asked.watch.note(f"line {case.row.line} left out: {case.refused}")
            continue
        images.append(torch.as_tensor(case.data["image"]).as_subclass(Tensor))
        truth.append(case.row.label)
    if not images:
        raise DataFolderError(str(asked.data), "no image can be used", "see the run's log.txt")
    return torch.stack(images), np.array(truth)
