"""Phantom radiographs through the node's own engine, from DICOM files on."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import load_file

from dicom_node.demo.phantom_studies import radiograph_study, write_study
from dicom_node.inference.bundles import BUILT_IN, WEIGHTS, load_bundle
from dicom_node.inference.local import JobInput, LocalExecutor
from dicom_node.model.findings import Classification, Findings, NotEvaluated, Saliency
from dicom_node.model.instances import facts_of

torch.set_num_threads(1)


@cache
def executor(pipeline: str) -> LocalExecutor:
    """Return the pipeline with the weights that ship, loaded once."""
    bundle = load_bundle(BUILT_IN / pipeline)
    return LocalExecutor({pipeline: bundle}, device="cpu", threads=1)


def findings(
    pipeline: str,
    pixels: npt.NDArray[np.uint16],
    spacing_mm: float,
    *,
    changed: Mapping[str, Any] | None = None,
    **header: Any,
) -> Findings:
    """Run a pipeline on one image as DICOM.

    Args:
        changed: Attributes that are set otherwise than `radiograph_study` does.
    """
    body_part = "KNEE" if "knee" in pipeline else "HIP"
    study = radiograph_study(
        pixels, spacing_mm, key="CASE", body_part=body_part, description="case", **header
    )
    for keyword, value in (changed or {}).items():
        setattr(study[0], keyword, value)
    with tempfile.TemporaryDirectory() as folder:
        write_study(study, Path(folder))
        files = tuple(sorted(Path(folder).iterdir()))
        facts = tuple(facts_of(d, str(d.file_meta.TransferSyntaxUID)) for d in study)
        job = JobInput(files, facts, None, datetime(2026, 1, 1, tzinfo=UTC))
        return executor(pipeline).run(pipeline, job).findings


def answers(found: Findings) -> dict[str, Classification]:
    """Return the classifications by the subject's name."""
    return {i.subject.name: i for i in found.items if isinstance(i, Classification)}


def refusals(found: Findings) -> list[str]:
    """Return the reasons' code values."""
    return [item.reason.value for item in found.items if isinstance(item, NotEvaluated)]


def saliencies(found: Findings) -> list[Saliency]:
    return [item for item in found.items if isinstance(item, Saliency)]


def manifest_entry(pipeline: str) -> dict[str, Any]:
    entries = yaml.safe_load((WEIGHTS / "manifest.yaml").read_text(encoding="utf-8"))
    entry: dict[str, Any] = entries[pipeline]
    return entry


def check_weights(pipeline: str) -> None:
    """The file is the manifest's, small, in half precision, and has a card with its figures."""
    entry = manifest_entry(pipeline)
    file = WEIGHTS / entry["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"]
    assert file.stat().st_size < 40 * 2**20
    kinds = {t.dtype for t in load_file(file).values() if t.is_floating_point()}
    assert kinds == {torch.float16}
    assert entry["demonstration"] is True
    assert entry["figures"]
    assert entry["data"]
    card = (WEIGHTS / entry["card"]).read_text(encoding="utf-8")
    assert "not a medical device" in " ".join(card.lower().split())
