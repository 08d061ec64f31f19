"""How fast pipelines run here, against the two ways in which they are run elsewhere.

    python tests/benchmarks/inference.py [--pipelines knee_kl_ensemble ...] [--rounds 3]

In each round every pipeline has its turn, and in its turn, one after the other, so that a busy
machine is busy for all: the node's executor on `--waiting` studies; a plain loop with the model
loaded, one image at a time, with MONAI's Grad-CAM; the executor on one study at a time; and one
process of `python -m monai.bundle run` for one study.

The loop is what a script does that was written with MONAI: the bundle's own locator,
preprocessing, network, inferer and postprocessing as `ConfigParser` makes them, `inference_mode`,
then `monai.visualize.GradCAM` with a pass of its own; PyTorch's defaults, all threads. It reads
with the node's reader. Nothing of what the engine does to be fast is in it: no folding, no
channels-last, no `QuickResize`, no map from the same pass, nothing ahead; and nothing that makes
it slow: no deterministic mode. The process reads with MONAI's own reader, makes no Grad-CAM and
finds no joint: it does less than the others.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

# as the supervisor sets it for its workers; before PyTorch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from monai.visualize import GradCAM

from dicom_node.inference.bundles import BUILT_IN, Bundle, load_bundle
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.local import LocalExecutor
from dicom_node.inference.parts import Parts, build_parts
from dicom_node.inference.saliency import Explainer
from tests.benchmarks.pipelines import STUDIES
from tests.benchmarks.plain import cold, job_of, plain_loop, plain_pytorch

ROWS = {
    "knee_kl_ensemble": "knee",
    "knee_osteoporosis_resnet50": "knee",
    "knee_osteoporosis_superfluity": "knee",
    "hip_fixation_device": "hip",
    "lumbar_bmd_ct": "ct",
}
"""The study that each pipeline gets, by its name in `pipelines.py`."""

_CPU = torch.device("cpu")


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


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


@dataclass
class Row:
    """One pipeline on one study, with its own plain loop."""

    bundle: Bundle
    job: JobInput
    waiting: int
    executor: LocalExecutor
    parts: Parts
    explain: GradCAM | None
    shape: tuple[int, ...] = ()
    found: Measured = field(default_factory=Measured)

    def warm_up(self) -> None:
        def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self.shape = tuple(inputs[0].shape)

        self.executor.run(self.bundle.name, self.job)
        with self.parts.network.register_forward_pre_hook(note):
            self.loop()

    def loop(self) -> None:
        plain_loop(self.bundle, self.parts, self.explain, self.job)

    def alone(self) -> None:
        self.executor.run(self.bundle.name, self.job)

    def round(self, with_cold: bool) -> None:
        found, name = self.found, self.bundle.name
        begun, cpu = time.perf_counter(), time.process_time()
        for _outcome in self.executor.run_many(name, [self.job] * self.waiting):
            found.latencies.append(time.perf_counter() - begun)
        found.together.append((time.perf_counter() - begun) / self.waiting)
        found.cpu_together.append((time.process_time() - cpu) / self.waiting)
        with plain_pytorch():
            cpu = time.process_time()
            found.loop.append(sum(timed(self.loop) for _ in range(self.waiting)) / self.waiting)
            found.cpu_loop.append((time.process_time() - cpu) / self.waiting)
        found.alone += [timed(self.alone) for _ in range(self.waiting)]
        if self.explain is not None:
            passes(self.bundle, self.shape, found)
        if with_cold:
            cpu = _cpu_of_children()
            with tempfile.TemporaryDirectory() as place:
                found.cold.append(timed(lambda: cold(self.bundle, self.job, Path(place))))
            found.cpu_cold.append(_cpu_of_children() - cpu)


def row_of(pipeline: str, folder: Path, waiting: int, threads: int) -> Row:
    bundle = load_bundle(BUILT_IN / pipeline)
    executor = LocalExecutor({pipeline: bundle}, device="cpu", threads=threads)
    parts = build_parts(bundle, _CPU)
    spec = bundle.spec.saliency
    explain = (
        GradCAM(parts.network, target_layers=spec.layer, postprocessing=lambda x: x)
        if spec
        else None
    )
    return Row(bundle, job_of(folder), waiting, executor, parts, explain)


def passes(bundle: Bundle, shape: Sequence[int], found: Measured) -> None:
    """Time the network alone, and with the maps that come from the same pass."""
    parts = build_parts(bundle, _CPU, channels_last=True, folded=True)
    assert bundle.spec.saliency is not None
    explainer = Explainer(parts.network, bundle.spec.saliency.layer)
    image = torch.rand(tuple(shape))

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


def ratios(over: Sequence[float], under: Sequence[float]) -> str:
    """The median of the rounds' ratios, with the least and the greatest."""
    each = [b / a for a, b in zip(under, over, strict=True)]
    return f"{median(each):.1f} ({min(each):.1f}-{max(each):.1f})" if each else "–"


def middle(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f}" if values else "–"


def ratio_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| pipeline | | node | loop | cold | node × loop | node × cold | Grad-CAM × pass |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        got = row.found
        ways = {
            "s": (got.together, got.loop, got.cold),
            "CPU s": (got.cpu_together, got.cpu_loop, got.cpu_cold),
        }
        ratio = f"{min(got.explained_pass) / min(got.plain_pass):.2f}" if got.plain_pass else "–"
        for unit, (node, loop, once) in ways.items():
            by_cold = ratios(once, node) if once else "–"
            lines.append(
                f"| {row.bundle.name} | {unit} | {median(node):.3f} | {median(loop):.3f} "
                f"| {middle(once, 1)} | {ratios(loop, node)} | {by_cold} "
                f"| {ratio if unit != 's' else ''} |"
            )
    return lines


def latency_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| pipeline | study | studies/s | alone p50 s | p95 s | waiting | p50 s | p95 s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        got = row.found
        lines.append(
            f"| {row.bundle.name} | {STUDIES[ROWS[row.bundle.name]][1]} "
            f"| {1 / median(got.together):.2f} "
            f"| {percentile(got.alone, 50):.3f} | {percentile(got.alone, 95):.3f} | {row.waiting} "
            f"| {percentile(got.latencies, 50):.3f} | {percentile(got.latencies, 95):.3f} |"
        )
    return lines


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", choices=ROWS, nargs="+", default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--waiting", type=int, default=8, help="radiographs; of CTs two wait")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--without-cold", action="store_true")
    parser.add_argument("--make", nargs=2, metavar=("STUDY", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        study, place = options.make
        STUDIES[study][2](Path(place))
        return 0
    with tempfile.TemporaryDirectory() as place:
        rows = []
        for pipeline in options.pipelines:
            study = ROWS[pipeline]
            folder = Path(place) / study
            if not folder.exists():
                folder.mkdir()
                # the phantoms' memory is not this process's
                make = [sys.executable, __file__, "--make", study, str(folder)]
                subprocess.run(make, check=True, capture_output=True)
            waiting = options.waiting if study != "ct" else min(2, options.waiting)
            rows.append(row_of(pipeline, folder, waiting, options.threads))
        for row in rows:
            row.warm_up()
        for number in range(options.rounds):
            for row in rows:
                row.round(not options.without_cold)
                print(f"round {number + 1}: {row.bundle.name}", file=sys.stderr, flush=True)
    print(f"{options.rounds} rounds, {options.threads} threads, load {os.getloadavg()[0]:.1f}\n")
    print("\n".join([*ratio_table(rows), "", *latency_table(rows)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
