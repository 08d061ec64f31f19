"""The two ways in which bundles are run elsewhere: a plain loop, and MONAI's own command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import yaml
from monai.data import MetaTensor
from monai.visualize import GradCAM
from pydicom import dcmread

from dicom_node.inference.bundles import Bundle
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.parts import Parts
from dicom_node.inference.presented import presented, with_prediction
from dicom_node.inference.saliency import onto_source
from dicom_node.inference.sources import sources_of
from dicom_node.model.instances import facts_of
from dicom_node.model.targets import Target

_PARTS = ("network", "preprocessing", "inferer", "postprocessing")


def job_of(folder: Path) -> JobInput:
    files = tuple(sorted(folder.glob("*.dcm")))
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    facts = tuple(facts_of(h, str(h.file_meta.TransferSyntaxUID)) for h in headers)
    return JobInput(files, facts, None, datetime.now(UTC))


def plain_loop(bundle: Bundle, parts: Parts, explain: GradCAM | None, job: JobInput) -> None:
    """Run a loaded model as a script does: read, find, preprocess, predict, explain, in turn."""
    for source in sources_of(job, bundle.spec.input.kind, None):
        assert source.values is not None
        affine = None if source.affine is None else torch.from_numpy(source.affine)
        image = MetaTensor(
            torch.from_numpy(source.values[None]),
            affine=affine,
            meta={"original_channel_dim": 0, "spacing": source.spacing},
        )
        found = parts.locator(image, source.attributes) if parts.locator else [Target("whole")]
        for target in found:
            if not isinstance(target, Target) or target.rejection is not None:
                continue
            data = parts.preprocessing(
                {
                    "image": presented(bundle.spec.input, image, target),
                    "target": target,
                    "attributes": source.attributes,
                }
            )
            batch = torch.as_tensor(data["image"] if data.get("batched") else data["image"][None])
            batch = batch.as_subclass(torch.Tensor)
            with torch.inference_mode():
                prediction = parts.inferer(batch, parts.network)
            parts.postprocessing(with_prediction(data, prediction))
            if explain is not None:
                answer = int(prediction.argmax())
                values = explain(batch.clone().requires_grad_(True), class_idx=answer)
                map_ = values.detach().numpy()[0, 0].astype(np.float32)
                height, width = source.values.shape
                onto_source(map_, (height, width), target.box, target.mirror)


def cold(bundle: Bundle, job: JobInput, folder: Path) -> None:
    """Run the bundle by MONAI's own command, in a process of its own."""
    extra = folder / "cold.yaml"
    run = {
        "_target_": "tests.benchmarks.cold.evaluate",
        **{name: f"@{name}_def" if name == "network" else f"@{name}" for name in _PARTS},
        "folder": str(job.files[0].parent),
        "weights": str(bundle.weights),
    }
    extra.write_text(yaml.safe_dump({"run": run}))
    configs = json.dumps([str(bundle.inference_config), str(extra)])
    subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", configs],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@contextmanager
def plain_pytorch() -> Iterator[None]:
    """Give the loop PyTorch as it is, without the executor's deterministic mode."""
    strict = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=True)
