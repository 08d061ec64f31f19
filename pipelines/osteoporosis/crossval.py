"""Grouped, stratified cross-validation of one network, fold by fold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import StratifiedGroupKFold

from dicom_node.training.whole import whole
from pipelines.networks.baselines import load_body
from pipelines.networks.knee_osteoporosis import KneeClassifier
from pipelines.osteoporosis.data import Indices, Joints
from pipelines.osteoporosis.fitting import (
    fit_all,
    fit_head,
    logits_of,
    pooled_features,
    possible_loss,
)

Values = npt.NDArray[np.float64]
Progress = Callable[[float, float], None]
"""Called with the share of the schedule that is done, and the last loss."""


def fold_of(joints: Joints, folds: int, seed: int) -> Indices:
    """Number the fold in which each image is tested: groups whole, labels evenly spread."""
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = np.zeros(len(joints), np.int64)
    # certain osteoporosis is the rarest label: evenly spread, if there is one for each fold
    rare = joints.three == 2
    strata = np.where(rare & (rare.sum() >= folds), 2, joints.two)
    for number, (_, held) in enumerate(split.split(joints.images, strata, joints.groups)):
        found[held] = number
    return found


def trained(
    joints: Joints, classes: int, settings: Mapping[str, Any], progress: Progress | None = None
) -> tuple[KneeClassifier, list[float]]:
    """Train a network: its head on the features that it starts with, then, if `tuned`, the rest.

    Args:
        settings: `network`, `start` (file of features, or empty), `image_size`, `tuned`,
            `head_decay`, and those of `fitting.fit_all`.

    Returns:
        The network in evaluation mode; the loss of the frozen phase, if any, then of each epoch.
    """
    torch.manual_seed(int(settings["seed"]))
    network = KneeClassifier(str(settings["network"]), classes)
    if settings["start"]:
        load_body(network.body, Path(str(settings["start"])))
    size = int(settings["image_size"])
    possible = joints.possible(classes)
    losses = []
    # features that nothing was learnt for make a head of huge weights, from which nothing learns
    if settings["start"] or not settings["tuned"]:
        features = pooled_features(network, joints.images, size)
        losses.append(fit_head(network, features, possible, float(settings["head_decay"])))
    if settings["tuned"]:
        schedule = {**settings, "sizes": [size] * int(settings["epochs"])}

        def step(done: int, steps: int, loss: float) -> None:
            if progress is not None:
                progress(done / steps, loss)

        losses += fit_all(network, joints.images, possible, schedule, possible_loss, step)
    return network.eval(), losses


def cross_validated(
    joints: Joints,
    classes: int,
    settings: Mapping[str, Any],
    folder: Path,
    note: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> Values:
    """Return each image's logits from the network that did not see its group: [N, classes].

    Each fold's logits are written to `folder`; folds that are there are not trained again.
    """
    place = fold_of(joints, int(settings["folds"]), int(settings["seed"]))
    logits = np.zeros((len(joints), classes))
    for fold in range(int(settings["folds"])):
        file = folder / f"fold-{fold}.json"
        held = np.flatnonzero(place == fold)
        if not file.is_file():
            network, losses = trained(
                joints.of(np.flatnonzero(place != fold)), classes, settings, progress
            )
            told = logits_of(network, joints.images[held], int(settings["image_size"]))
            folder.mkdir(parents=True, exist_ok=True)
            with whole(file) as partial:
                partial.write_text(json.dumps({"logits": told.tolist(), "losses": losses}))
            note(f"fold {fold}: losses {', '.join(f'{loss:.3f}' for loss in losses)}")
        logits[held] = json.loads(file.read_text(encoding="utf-8"))["logits"]
    return logits
