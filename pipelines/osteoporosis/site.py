"""Training on a site's own radiographs: `dicom-node pipelines train knee_osteoporosis_...`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dicom_node.errors import ConfigError, DataFolderError
from dicom_node.inference.calibration import to_metadata
from dicom_node.inference.parts import Parts, build_parts, build_untrained
from dicom_node.training.contract import Trained, Training
from dicom_node.training.table import read_cells
from dicom_node.training.whole import whole
from pipelines.networks.knee_osteoporosis import KneeOsteoporosis
from pipelines.osteoporosis.crossval import Values, cross_validated, trained
from pipelines.osteoporosis.data import (
    CLASSES,
    UNKNOWN,
    Joints,
    load_joints,
    read_joints,
    save_joints,
    with_finder,
)
from pipelines.osteoporosis.figures import figures_of
from pipelines.osteoporosis.fitting import logits_of
from pipelines.transforms.calibration import fit_temperature, fit_threshold, softmax

_CALIBRATED: Final = "postprocessing::transforms::0"


class SiteTrainer:
    """Trains the bundle's network; the joint finder stays as it is.

    With a column `split` the rows of `train` train and those of `val` calibrate. Without it every
    image trains, and calibration is by grouped cross-validation. It is done on the CPU.
    """

    def __call__(self, asked: Training) -> Trained:
        """Train, then write `weights.safetensors` with the calibration.

        Raises:
            DataFolderError: The table or an image cannot be used.
            ConfigError: The file to start from does not fit, or seconds were asked for.
        """
        if asked.seconds is not None:
            raise ConfigError(
                "--seconds",
                f"{asked.bundle.name} is trained for the epochs of its settings, fold by fold",
                "leave it out; fewer epochs: a shorter list in --set sizes=[...]",
            )
        asked.watch.note("on the CPU, in bfloat16")
        parts = _parts(asked)
        network = parts.network
        assert isinstance(network, KneeOsteoporosis)
        settings = _settings(asked, network)
        classes = network.head.out_features
        train, val = self._read(asked, parts)
        _check_certain(asked, train if val is None else val, classes)
        asked.watch.note(f"{len(train)} images, {int(train.two.sum())} called osteoporosis")
        if val is None:
            told = cross_validated(
                train, classes, settings, asked.output / "folds", asked.watch.note, asked.watch.step
            )
        _fitted(asked, settings, network, train)
        if val is not None:
            told = logits_of(network, val.images, int(settings["image_size"]))
        done = _packed(network, train if val is None else val, told, asked.output)
        return replace(done, on_every_row=val is None)

    def _read(self, asked: Training, parts: Parts) -> tuple[Joints, Joints | None]:
        if "split" not in read_cells(asked.data)[0]:
            return self._located(asked, parts, "all"), None
        return self._located(asked, parts, "train"), self._located(asked, parts, "val")

    def _located(self, asked: Training, parts: Parts, split: str) -> Joints:
        file = asked.output / f"joints-{split}.npz"
        if asked.resume and file.is_file():
            return load_joints(file)

        def every(number: int, count: int) -> None:
            if number % 50 == 0:
                asked.watch.note(f"{number} of {count} images read")

        joints = read_joints(
            asked.data, asked.bundle.name, parts, (split,), asked.watch.note, every
        )
        save_joints(joints, file)
        return joints


def _parts(asked: Training) -> Parts:
    finder = str(asked.settings["finder"] or "")
    if not finder:
        return build_parts(asked.bundle, torch.device("cpu"))
    return with_finder(build_untrained(asked.bundle, torch.device("cpu")), Path(finder))


def _settings(asked: Training, network: KneeOsteoporosis) -> dict[str, Any]:
    settings = dict(asked.settings)
    if settings["start"] == "weights":
        file = asked.output / "start.safetensors"
        save_file({k: v.contiguous() for k, v in network.body.state_dict().items()}, file)
        settings["start"] = str(file)
    elif settings["start"] and not Path(str(settings["start"])).is_file():
        raise ConfigError(
            f"--set start={settings['start']}", "there is no such file", "name a file of weights"
        )
    return settings


def _fitted(
    asked: Training, settings: dict[str, Any], network: KneeOsteoporosis, train: Joints
) -> None:
    """Train on all images and put what was learnt into the pipeline's network."""
    file = asked.output / "net.safetensors"
    if not file.is_file():
        made, losses = trained(train, network.head.out_features, settings, asked.watch.step)
        asked.watch.note(f"losses {', '.join(f'{loss:.3f}' for loss in losses)}")
        asked.watch.epoch(len(losses), {"loss": losses[-1]})
        with whole(file) as partial:
            save_file({k: v.contiguous() for k, v in made.state_dict().items()}, partial)
    learnt = load_file(file)
    for name, part in (("body", network.body), ("head", network.head)):
        part.load_state_dict(
            {k.removeprefix(f"{name}."): v for k, v in learnt.items() if k.startswith(f"{name}.")}
        )


def _packed(network: nn.Module, held: Joints, logits: Values, folder: Path) -> Trained:
    """Write the weights in half precision, with the calibration on images not trained on."""
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    numbers = calibration(logits, held)
    named = {f"{_CALIBRATED}::{name}": value for name, value in numbers.items()}
    file = folder / "weights.safetensors"
    with whole(file) as partial:
        save_file(halves, partial, to_metadata(named))
    probabilities = softmax(logits / numbers["temperature"])
    figures = figures_of(probabilities, held.two, held.three, held.groups)
    told = {key: value for key in ("auc", "accuracy") if (value := figures[key]) is not None}
    return Trained(file, {**told, **numbers})


def calibration(logits: Values, held: Joints) -> dict[str, float]:
    """Fit temperature and threshold to the images whose label is certain."""
    truth = held.two if logits.shape[1] == 2 else held.three
    known = truth != UNKNOWN
    temperature = fit_temperature(logits[known], truth[known])
    probabilities = softmax(logits[known] / temperature)
    return {
        "temperature": round(temperature, 4),
        "threshold": round(fit_threshold(probabilities, truth[known]), 4),
    }


def _check_certain(asked: Training, held: Joints, classes: int) -> None:
    """Say before the training, which takes hours, that nothing could be calibrated after it."""
    if classes == len(CLASSES) and (held.three == UNKNOWN).all():
        raise DataFolderError(
            str(asked.data),
            "no image to calibrate on has a label of three classes",
            f"give it a column `label` with {', '.join(CLASSES)}",
        )
