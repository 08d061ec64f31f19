"""Which of a machine's options run a pipeline fastest, among those that leave its findings be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from dicom_node.errors import PipelineError
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.files import read_header
from dicom_node.inference.golden import told
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.loaded import LoadedPipeline
from dicom_node.inference.tuning import Tuning
from dicom_node.model.instances import facts_of

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
"""An option that is not the default must take less than this share of the default's time, in
three rounds of four: on a busy machine somebody is always the fastest."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One option.

    Attributes:
        rounds: Seconds of a study in each round.
        differs: By what its findings are others; empty: they are the same within the tolerance.
    """

    tuning: Tuning
    rounds: tuple[float, ...]
    differs: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Median of a study."""
        return median(self.rounds)

    def shares_of(self, other: Trial) -> list[float]:
        """Return its time in each round as a share of another's, in ascending order.

        What else the machine does slows neighbours of one round alike, and rounds differently.
        """
        return sorted(a / b for a, b in zip(self.rounds, other.rounds, strict=True))

    def share_of(self, other: Trial) -> float:
        """Return the median of the rounds."""
        return median(self.shares_of(other))

    def is_worth_it(self, default: Trial) -> bool:
        """Tell whether it is faster than the default, and not by chance."""
        shares = self.shares_of(default)
        return shares[-(-3 * (len(shares) - 1) // 4)] < _WORTH

    def as_plain(self) -> dict[str, Any]:
        return {
            "channels_last": self.tuning.channels_last,
            "folded": self.tuning.folded,
            "precision": self.tuning.precision,
            "seconds": round(self.seconds, 4),
            "differs": list(self.differs),
        }


def trials(
    bundle: Bundle,
    device: torch.device,
    job: JobInput,
    rounds: int,
    show: Callable[[float, str], None] = lambda _, __: None,
) -> list[Trial]:
    """Run a study with each option, in turn, so that a busy machine is busy for all.

    Args:
        show: Told the share that is done, and what is next.

    Raises:
        PipelineError: The pipeline cannot be loaded, it raised, or it found nothing in the study
            by which its options could be compared.
    """
    loaded = {tuning: LoadedPipeline(bundle, device, tuning) for tuning in OPTIONS}
    found = {}
    for number, (tuning, pipeline) in enumerate(loaded.items()):
        show(number / len(OPTIONS) / (rounds + 1), "comparing findings")
        found[tuning] = _answers(pipeline, job)
        if not any(found[EXACT].values()):
            raise PipelineError(
                f"pipeline {bundle.name}",
                "it evaluated nothing in the study, so its options cannot be compared",
                "give it a study that it evaluates: `pipelines tune NAME --images FOLDER`",
            )
    took: dict[Tuning, list[float]] = {tuning: [] for tuning in OPTIONS}
    for number in range(rounds):
        show((number + 1) / (rounds + 1), f"round {number + 1} of {rounds}")
        # another one is first each time
        first = number % len(OPTIONS)
        for tuning in OPTIONS[first:] + OPTIONS[:first]:
            begun = time.perf_counter()
            loaded[tuning].run(job)
            took[tuning].append(time.perf_counter() - begun)
    return [
        Trial(tuning, tuple(took[tuning]), tuple(differences(found[EXACT], found[tuning])))
        for tuning in OPTIONS
    ]


def standard(found: Sequence[Trial]) -> Trial:
    """Return what is run without a choice; the exact one where that changes findings."""
    by_tuning = {trial.tuning: trial for trial in found}
    default = by_tuning[Tuning()]
    return by_tuning[EXACT] if default.differs else default


def best(found: Sequence[Trial]) -> Trial:
    """Return the fastest whose findings are the same; the default unless one is worth it."""
    default = standard(found)
    worth = [trial for trial in found if not trial.differs and trial.is_worth_it(default)]
    return min(worth, key=lambda trial: trial.share_of(default), default=default)


def job_of(folder: Path) -> JobInput:
    """Return the job of a folder's DICOM files.

    Raises:
        PipelineError: There are none, or one is no DICOM file.
    """
    files = tuple(sorted(file for file in folder.glob("*") if file.is_file()))
    if not files:
        raise PipelineError(str(folder), "there are no files", "name a folder of DICOM files")
    headers = [read_header(file) for file in files]
    facts = tuple(facts_of(h, str(h.file_meta.TransferSyntaxUID)) for h in headers)
    return JobInput(files, facts, None, datetime.now(UTC))


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
