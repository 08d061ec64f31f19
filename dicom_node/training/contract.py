"""What a bundle's trainer and evaluator are given, and what they return.

A bundle names them as MONAI configurations name anything: `evaluator: {_target_: ...}` in
`configs/evaluate.yaml` and `trainer: {_target_: ...}` in `configs/train.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from dicom_node.inference.bundles import Bundle

ALL_ROWS = "all"
"""The split that is every row of the table."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation.

    Attributes:
        data: The folder of labelled data, as the evaluator's bundle describes it.
        split: Rows of this split where the table has a column `split`; "all": every row.
        output: Where charts are drawn; None: none are.
        progress: Called with the share done, 0 to 1, and a few words.
    """

    bundle: Bundle
    data: Path
    split: str
    output: Path | None
    device: torch.device
    progress: Callable[[float, str], None]


class Watch(Protocol):
    """Who looks on while a network is trained."""

    def note(self, text: str) -> None:
        """Take a line for the log; no patient data in it."""

    def step(self, share: float, loss: float) -> None:
        """Take the share of the schedule that is done, 0 to 1, and the last loss."""

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Take the figures of an epoch (or whatever the trainer counts so)."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training.

    Attributes:
        settings: `configs/train.yaml` with the user's changes, without `trainer`.
        output: Folder of the run: checkpoints and weights.
        resume: Go on from the run's checkpoint.
        seconds: End the schedule after so long; None: when its steps are done.
    """

    bundle: Bundle
    data: Path
    output: Path
    settings: Mapping[str, Any]
    resume: bool
    seconds: float | None
    device: torch.device
    watch: Watch


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left.

    Attributes:
        weights: safetensors that fit the bundle's network, with the calibration inside
            (`dicom_node.inference.calibration`).
        figures: On the validation data; cross-validated with `on_every_row`.
        on_every_row: Nothing of the data was left out of the training: it holds no test.
    """

    weights: Path
    figures: Mapping[str, float] = field(default_factory=dict)
    on_every_row: bool = False


Evaluator = Callable[[Evaluation], Mapping[str, Any]]
"""Returns plain figures, with `n` and `table`: rows of (name, value, 95 % interval or "").

`split`, where it says it, is what the table has: "all" if that has no such column.
"""
Trainer = Callable[[Training], Trained]
