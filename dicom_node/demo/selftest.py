"""A pipeline run on simulated input: does it load, and does it make findings?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from dicom_node.demo.phantom_studies import ct_study, radiograph_study, write_study
from dicom_node.demo.studies import hip, knee, spine
from dicom_node.inference.bundles import Bundle
from dicom_node.inference.local import JobInput, LocalExecutor
from dicom_node.model.instances import facts_of
from dicom_node.model.pipeline import InputKind
from dicom_node.results import build_report


def run_on_simulated_input(bundle: Bundle) -> str:
    """Run a pipeline on the phantom made for it, or on a plain one; returns what it said.

    Raises:
        NodeError: It cannot be loaded, it raised, or its report did not pass the check.
    """
    study = _input_of(bundle)
    with tempfile.TemporaryDirectory() as folder:
        write_study(study, Path(folder))
        files = tuple(sorted(Path(folder).iterdir()))
        by_uid = {str(item.SOPInstanceUID): item for item in study}
        members = [by_uid[file.stem] for file in files]
        facts = tuple(facts_of(m, str(m.file_meta.TransferSyntaxUID)) for m in members)
        executor = LocalExecutor({bundle.name: bundle}, device="auto")
        executor.warm_up()
        begun = time.perf_counter()
        outcome = executor.run(bundle.name, JobInput(files, facts, None, datetime.now(UTC)))
        took = time.perf_counter() - begun
        report = build_report(outcome.findings, members, outcome.pictures, bundle.spec)
    kinds = ", ".join(item.kind for item in report.objects)
    return f"{outcome.findings.statement} ({took:.1f} s; makes {kinds})"


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
