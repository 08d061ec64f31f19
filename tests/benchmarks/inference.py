"""How fast pipelines run here, against the two ways in which they are run elsewhere.

    python tests/benchmarks/inference.py [--only knee hip ct] [--rounds 3] [--waiting 8]

In each round, one after the other, so that a busy machine is busy for all: the node's executor on
`waiting` studies; a plain loop with the model loaded, one image at a time, with MONAI's Grad-CAM;
and one process of `python -m monai.bundle run` for one study. The loop reads the same files with
the same reader and looks with the same locator as the executor. The process reads with MONAI's
own reader and makes no Grad-CAM: it does less than the others.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

# as the supervisor sets it for its workers; before PyTorch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
import yaml
from monai.data import MetaTensor
from monai.visualize import GradCAM
from pydicom import dcmread

from dicom_node.inference.bundles import BUILT_IN, Bundle, load_bundle
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.local import LocalExecutor
from dicom_node.inference.parts import Parts, build_parts
from dicom_node.inference.presented import presented, with_prediction
from dicom_node.inference.saliency import Explainer, onto_source
from dicom_node.inference.sources import sources_of
from dicom_node.model.instances import facts_of
from dicom_node.model.targets import Target
from tests.benchmarks.pipelines import STUDIES

_CPU = torch.device("cpu")
_PARTS = ("network", "preprocessing", "inferer", "postprocessing")


@dataclass
class Measured:
    """Seconds of each way, by round."""

    together: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    cpu_together: list[float] = field(default_factory=list)
    cpu_loop: list[float] = field(default_factory=list)
    cpu_cold: list[float] = field(default_factory=list)
    plain_pass: list[float] = field(default_factory=list)
    explained_pass: list[float] = field(default_factory=list)


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


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def measure(name: str, rounds: int, waiting: int, threads: int, folder: Path) -> Measured:
    pipeline, _, _ = STUDIES[name]
    bundle = load_bundle(BUILT_IN / pipeline)
    job = job_of(folder)
    executor = LocalExecutor({pipeline: bundle}, device="cpu", threads=threads)
    parts = build_parts(bundle, _CPU)
    spec = bundle.spec.saliency
    explain = (
        GradCAM(parts.network, target_layers=spec.layer, postprocessing=lambda x: x)
        if spec
        else None
    )
    executor.run(pipeline, job)
    plain_loop(bundle, parts, explain, job)
    found = Measured()
    for _ in range(rounds):
        begun, cpu = time.perf_counter(), time.process_time()
        for _outcome in executor.run_many(pipeline, [job] * waiting):
            found.latencies.append(time.perf_counter() - begun)
        found.together.append((time.perf_counter() - begun) / waiting)
        found.cpu_together.append((time.process_time() - cpu) / waiting)
        cpu = time.process_time()
        loops = [timed(lambda: plain_loop(bundle, parts, explain, job)) for _ in range(waiting)]
        found.loop.append(sum(loops) / waiting)
        found.cpu_loop.append((time.process_time() - cpu) / waiting)
        found.alone += [timed(lambda: executor.run(pipeline, job)) for _ in range(waiting)]
        cpu = _cpu_of_children()
        found.cold.append(timed(lambda: cold(bundle, job, folder)))
        found.cpu_cold.append(_cpu_of_children() - cpu)
        if spec:
            passes(bundle, found)
    return found


def passes(bundle: Bundle, found: Measured) -> None:
    """Time the network alone, and with the maps that come from the same pass."""
    parts = build_parts(bundle, _CPU, channels_last=True, folded=True)
    assert bundle.spec.saliency is not None
    explainer = Explainer(parts.network, bundle.spec.saliency.layer)
    size = 256 if "hip" in bundle.name else 224
    image = torch.rand(1, 1, size, size)

    def plain() -> None:
        with torch.inference_mode():
            parts.network(image)

    def cpu(run: Callable[[], object]) -> float:
        begun = time.process_time()
        run()
        return time.process_time() - begun

    plain()
    explainer(image, 0)
    for _ in range(5):
        found.plain_pass.append(cpu(plain))
        found.explained_pass.append(cpu(lambda: explainer(image, 0)))


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=STUDIES, nargs="*", default=["knee", "hip", "ct"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--waiting", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        STUDIES[options.only[0]][2](options.make)
        return 0
    print("| study | | node | loop | cold | node × loop | node × cold | Grad-CAM × pass |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            subprocess.run(
                [sys.executable, __file__, "--only", name, "--make", place],
                check=True,
                capture_output=True,
            )
            waiting = options.waiting if "ct" not in STUDIES[name][0] else 2
            got = measure(name, options.rounds, waiting, options.threads, folder)
        ratio = f"{min(got.explained_pass) / min(got.plain_pass):.2f}" if got.plain_pass else "–"
        ways = {
            "s": (got.together, got.loop, got.cold),
            "CPU s": (got.cpu_together, got.cpu_loop, got.cpu_cold),
        }
        for unit, (node, loop, once) in ways.items():
            by_loop = median(b / a for a, b in zip(node, loop, strict=True))
            by_cold = median(b / a for a, b in zip(node, once, strict=True))
            print(
                f"| {STUDIES[name][1]} | {unit} | {median(node):.2f} | {median(loop):.2f} "
                f"| {median(once):.1f} | {by_loop:.1f} | {by_cold:.0f} | {ratio} |"
            )
        print(
            f"alone: p50 {percentile(got.alone, 50):.2f} s, p95 {percentile(got.alone, 95):.2f} s; "
            f"of {waiting} waiting: p50 {percentile(got.latencies, 50):.2f} s, "
            f"p95 {percentile(got.latencies, 95):.2f} s",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
