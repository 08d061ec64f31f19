"""Training on a site's own knees: one member anew, the finder kept, calibrated on `val`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from dicom_node.errors import ConfigError, DataFolderError
from dicom_node.inference.calibration import to_metadata
from dicom_node.inference.parts import Parts, build_parts
from dicom_node.training.contract import Trained, Training
from dicom_node.training.images import Reader
from dicom_node.training.table import Row, read_table
from dicom_node.training.whole import whole
from pipelines.knee_kl_ensemble.data import GRADE_COLUMNS, Crops, Knees, by_grade
from pipelines.knee_kl_ensemble.evaluate import predictions
from pipelines.knee_kl_ensemble.phantoms import phantom_knees
from pipelines.knee_kl_ensemble.train import Trainer, save_member
from pipelines.networks.kl_ensemble import KLEnsemble
from pipelines.transforms.calibration import fit_temperature, fit_threshold, softmax

_GRADES: Final = {str(grade): grade for grade in range(5)}
_CALIBRATED: Final = "postprocessing::transforms::0"


class SiteTrainer:
    """Trains a member of the bundle's ensemble (the first; `member` in the settings: another)."""

    def __call__(self, asked: Training) -> Trained:
        """Train, then write `weights.safetensors` with the calibration.

        Raises:
            DataFolderError: The table or an image cannot be used.
            ConfigError: The bundle has no such member.
        """
        tables = [
            read_table(asked.data, GRADE_COLUMNS, _GRADES, [split]) for split in ("train", "val")
        ]
        if tables[0] == tables[1]:
            raise DataFolderError(
                str(asked.data / "labels.csv"),
                "it has no column `split`: training needs rows of train and of val",
                "add the column; no patient may be in both",
            )
        if len({row.label for row in tables[1]}) < 2:
            raise DataFolderError(
                str(asked.data / "labels.csv"),
                "its rows of val are all of one grade: the best epoch cannot be told",
                "put knees of every grade into val",
            )
        parts = build_parts(asked.bundle, torch.device("cpu"))
        network = parts.network
        assert isinstance(network, KLEnsemble)
        settings, index = _settings(asked)
        settings["start"] = _start(network, index, asked, str(settings["start"] or ""))
        train, val = (self._read(asked, parts, rows) for rows in tables)
        asked.watch.note(f"train {by_grade(train.grades)} val {by_grade(val.grades)} by grade")
        if settings["phantoms"]:
            train = train.joined(phantom_knees(int(settings["phantoms"]), int(settings["seed"])))
        trainer = Trainer(settings, train, val, asked.output, asked.device, asked.watch, network)
        if asked.resume and (asked.output / "checkpoint.pt").is_file():
            trainer.resume()
        trainer.run(int(settings["epochs"]), asked.seconds)
        best = load_file(asked.output / "best.safetensors")
        network.members[index].network.load_state_dict(best)  # type: ignore[union-attr]
        return _packed(network, val, asked.output / "weights.safetensors")

    def _read(self, asked: Training, parts: Parts, rows: Sequence[Row]) -> Knees:
        images, grades, files, sides = [], [], [], []
        reader = Reader(asked.bundle.name, parts, torch.device("cpu"), mirror_left=True)
        for number, case in enumerate(reader.cases(rows), start=1):
            if case.data is None:
                asked.watch.note(f"line {case.row.line} left out: {case.refused}")
                continue
            image = torch.as_tensor(case.data["image"])[0].clamp(0, 1) * 255
            images.append(image.round().to(torch.uint8).numpy())
            grades.append(case.row.label)
            files.append(case.row.file.name)
            sides.append(case.row.side)
            if number % 500 == 0:
                asked.watch.note(f"{number} of {len(rows)} images read")
        if not images:
            raise DataFolderError(
                str(asked.data), "no knee was found in any image", "check images and sides"
            )
        return Knees(np.stack(images), np.array(grades), tuple(files), tuple(sides))


def _settings(asked: Training) -> tuple[dict[str, Any], int]:
    """The settings with the member's network and image size, and its index."""
    config = yaml.safe_load(asked.bundle.inference_config.read_text(encoding="utf-8"))
    index = int(asked.settings.get("member", 0))
    if not 0 <= index < len(config["members"]):
        raise ConfigError(
            f"--set member={index}",
            f"the ensemble has {len(config['members'])} members, counted from 0",
            "name one of them",
        )
    member = config["members"][index]
    same = {key: member[key] for key in ("network", "image_size")}
    return {**asked.settings, **same}, index


def _start(network: KLEnsemble, index: int, asked: Training, start: str) -> str:
    if start != "weights":
        return start
    file = asked.output / "start.safetensors"
    save_member(network.members[index].network, file)  # type: ignore[arg-type]
    return str(file)


def _packed(network: KLEnsemble, val: Knees, file: Path) -> Trained:
    """Write the ensemble in half precision, calibrated as it is written."""
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(halves)
    logits = predictions(network.eval(), Crops(torch.from_numpy(val.images), val.grades))
    temperature = fit_temperature(logits, val.grades)
    threshold = fit_threshold(softmax(logits / temperature), val.grades)
    numbers = {f"{_CALIBRATED}::temperature": temperature, f"{_CALIBRATED}::threshold": threshold}
    with whole(file) as partial:
        save_file(halves, partial, to_metadata(numbers))
    accuracy = float((logits.argmax(1) == val.grades).mean())
    return Trained(
        file, {"val_accuracy": accuracy, "temperature": temperature, "threshold": threshold}
    )
