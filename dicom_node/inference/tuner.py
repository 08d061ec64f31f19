"""Which of a machine's options run a pipeline fastest, among those that leave its findings be."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch

from dicom_node.inference.bundles import Bundle
from dicom_node.inference.golden import told
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.tuning import Tuning

EXACT: Final = Tuning(channels_last=False, folded=False)
OPTIONS: Final = (
    EXACT,
    Tuning(channels_last=False),
    Tuning(folded=False),
    Tuning(),
    Tuning(bfloat16=True),
)
PROBABILITY: Final = 0.01
"""By which a probability may differ from the exact one."""
MEASUREMENT: Final = 0.005
"""By which a measurement may differ, as a share of it."""
_WORTH: Final = 0.95
"""An option that is not the default must take less than this share of the default's time."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One option.

    Attributes:
        seconds: Median of a study.
        differs: By what its findings are others; empty: they are the same within the tolerance.
    """

    tuning: Tuning
    seconds: float
    differs: tuple[str, ...]

    def as_plain(self) -> dict[str, Any]:
        return {
            "channels_last": self.tuning.channels_last,
            "folded": self.tuning.folded,
            "precision": self.tuning.precision,
            "seconds": round(self.seconds, 4),
            "differs": list(self.differs),
        }


def trials(bundle: Bundle, device: torch.device, job: JobInput, rounds: int) -> list[Trial]:
    """Run a study with each option, in turn, so that a busy machine is busy for all.

    Raises:
        PipelineError: The pipeline cannot be loaded, or it raised.
    """
    loaded = {tuning: LoadedPipeline(bundle, device, tuning) for tuning in OPTIONS}
    found = {tuning: _answers(pipeline, job) for tuning, pipeline in loaded.items()}
    took: dict[Tuning, list[float]] = {tuning: [] for tuning in OPTIONS}
    for _ in range(rounds):
        for tuning, pipeline in loaded.items():
            begun = time.perf_counter()
            pipeline.run(job)
            took[tuning].append(time.perf_counter() - begun)
    return [
        Trial(tuning, median(took[tuning]), tuple(differences(found[EXACT], found[tuning])))
        for tuning in OPTIONS
    ]


def best(found: Sequence[Trial]) -> Trial:
    """Return the fastest whose findings are the same; the default unless one is worth it."""
    by_tuning = {trial.tuning: trial for trial in found}
    default = by_tuning[Tuning()]
    if default.differs:
        default = by_tuning[EXACT]
    fit = [trial for trial in found if not trial.differs]
    fastest = min(fit, key=lambda trial: trial.seconds)
    return fastest if fastest.seconds < _WORTH * default.seconds else default


def differences(
    exact: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]
) -> list[str]:
    """Say in what findings differ: by more than the tolerance, or in the answer given."""
    differs = [f"{name} is missing" for name in exact if name not in other]
    for name, values in other.items():
        expected = exact.get(name)
        if expected is None or len(expected) != len(values):
            differs.append(f"{name} is new")
            continue
        measured = name.startswith("value ")
        for one, two in zip(expected, values, strict=True):
            if abs(one - two) > (MEASUREMENT * abs(one) if measured else PROBABILITY):
                differs.append(f"{name}: {two:.4g} instead of {one:.4g}")
                break
        else:
            if name.startswith("class ") and _answer(values) != _answer(expected):
                differs.append(f"{name}: another answer")
    return differs


def _answer(probabilities: Sequence[float]) -> int:
    return max(range(len(probabilities)), key=lambda n: probabilities[n])


def _answers(pipeline: LoadedPipeline, job: JobInput) -> dict[str, list[float]]:
    return told(pipeline.run(job).findings.items)
