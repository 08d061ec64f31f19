"""One training run in its folder: never over another one, and resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from dicom_node.errors import ConfigError
from dicom_node.store.files import write_durably
from dicom_node.training.contract import Trained, Trainer, Training
from dicom_node.training.entries import extras

_RUN: Final = "run.json"
"""What the run is of; there from its beginning."""
_NOTHING_YET: Final = frozenset({_RUN, "log.txt", "tensorboard", "start.safetensors"})
"""What a run leaves that ended before its first checkpoint."""


def begin(folder: Path, pipeline: str, resume: bool) -> None:
    """Claim the folder of a run.

    Raises:
        ConfigError: It holds a run that is not to be resumed, another pipeline's, or none to be
            resumed.
    """
    file = folder / _RUN
    if not file.is_file():
        if resume:
            raise ConfigError(
                f"--resume {folder}", "no training was begun there", "leave --resume out"
            )
        write_durably(file, json.dumps({"pipeline": pipeline}).encode())
        return
    begun = json.loads(file.read_text(encoding="utf-8")).get("pipeline")
    if begun != pipeline:
        raise ConfigError(
            f"--output {folder}", f"it holds a training of {begun}", "name another folder"
        )
    made = {item.name for item in folder.iterdir()} - _NOTHING_YET
    if not resume and made:
        raise ConfigError(
            f"--output {folder}",
            "it holds a training already",
            "go on from its checkpoint with --resume, or name another folder",
        )


def train(trainer: Trainer, asked: Training) -> Trained:
    """Run a bundle's trainer.

    Raises:
        NodeError: The data cannot be used, a package is missing, or the trainer says no.
    """
    asked.watch.note(f"{asked.bundle.name} on {asked.device}: {json.dumps(dict(asked.settings))}")
    with extras(f"training of {asked.bundle.name}"):
        done = trainer(asked)
    asked.watch.note(f"weights {done.weights.name}: {json.dumps(dict(done.figures))}")
    return done
