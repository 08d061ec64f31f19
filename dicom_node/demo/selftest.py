"""A pipeline run on simulated input: does it load, and does it make findings?"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from dicom_node.demo.phantom_studies import ct_study, radiograph_study, write_study
from dicom_node.demo.studies import hip, knee, spine
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.local import JobInput, LocalExecutor
from dicom_node.model.instances import facts_of
from dicom_node.model.pipeline import InputKind
from dicom_node.results.report import build_report


def run_on_simulated_input(bundle: Bundle) -> str:
    """Run a pipeline on the phantom made for it, or on a plain one; returns what it said.

    Raises:
        NodeError: It cannot be loaded, it raised, or its report did not pass the check.
    """
    with simulated_job(bundle) as (job, members):
        executor = LocalExecutor({bundle.name: bundle}, device="auto")
        executor.warm_up()
        begun = time.perf_counter()
        outcome = executor.run(bundle.name, job)
        took = time.perf_counter() - begun
        report = build_report(outcome.findings, members, outcome.pictures, bundle.spec)
    kinds = ", ".join(item.kind for item in report.objects)
    return f"{outcome.findings.statement} ({took:.1f} s; makes {kinds})"


@contextmanager
def simulated_job(bundle: Bundle) -> Iterator[tuple[JobInput, Sequence[FileDataset]]]:
    """Make a job of the phantom study of a pipeline, with its files in a temporary folder."""
    study = _input_of(bundle)
    with tempfile.TemporaryDirectory() as folder:
        write_study(study, Path(folder))
        files = tuple(sorted(Path(folder).iterdir()))
        by_uid = {str(item.SOPInstanceUID): item for item in study}
        members = [by_uid[file.stem] for file in files]
        facts = tuple(facts_of(m, str(m.file_meta.TransferSyntaxUID)) for m in members)
        yield JobInput(files, facts, None, datetime.now(UTC)), members


class Probe:
    """Context that notes what goes into networks and what comes out, and the memory it takes."""

    def __init__(self) -> None:
        self.shapes: dict[str, None] = {}
        self.grown_mb = 0.0
        self._depth = 0
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Probe:
        self._before = _peak_mb()
        self._hooks = [
            register_module_forward_pre_hook(self._entered),
            register_module_forward_hook(self._left, always_call=True),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self.grown_mb = _peak_mb() - self._before

    def lines(self) -> list[str]:
        """Say what was seen."""
        return [*self.shapes, f"memory: {self.grown_mb:.0f} MB more than before"]

    def _entered(self, module: nn.Module, given: Any) -> None:
        self._depth += 1

    def _left(self, module: nn.Module, given: Any, found: Any) -> None:
        self._depth -= 1
        # a network is what no other module calls
        if self._depth == 0:
            name = getattr(module, "original_name", type(module).__name__)
            self.shapes[f"{name}: {shape_of(given)} to {shape_of(found)}"] = None


def shape_of(value: Any) -> str:
    """Say the shape of a tensor, or of those in a tuple, a list or a dict."""
    if isinstance(value, Tensor):
        return "×".join(map(str, value.shape)) or "a number"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shape_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(shape_of(item) for item in value)
    return type(value).__name__


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _input_of(bundle: Bundle) -> Sequence[FileDataset]:
    own: Mapping[str, Sequence[FileDataset]] = {
        name: item.instances
        for item in (knee(), hip(), spine())
        for name in item.pipelines
        if name == bundle.name
    }
    if bundle.name in own:
        return own[bundle.name]
    rng = np.random.default_rng(0)
    if bundle.spec.input.kind is InputKind.VOLUME:
        volume = rng.normal(40, 20, (128, 128, 64)).astype(np.int16)
        return ct_study(
            volume, (2.0, 2.0, 3.0), key=f"CHECK-{bundle.name}", body_part="", description="noise"
        )
    pixels = rng.integers(0, 4096, (512, 512)).astype(np.uint16)
    return radiograph_study(
        pixels, 0.2, key=f"CHECK-{bundle.name}", body_part="", description="noise"
    )
