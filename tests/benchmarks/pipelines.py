"""Time and memory of one study in each pipeline, from DICOM files to findings.

    python tests/benchmarks/pipelines.py [--only thousand]

Each study runs in a process of its own, on one thread, through the node's executor; the weights
are loaded before the clock starts. Peak memory is the process's highest resident set (Linux), and
beside it what it held before the study came. The images are phantoms or noise of full size.
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
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.factories import ct_slice, radiograph


def _radiograph(folder: Path, body_part: str, image: np.ndarray, spacing_mm: float) -> None:
    """A film of about 2,500 by 2,000 pixels."""
    factor = max(1, round(2400 / image.shape[0]))
    pixels = np.kron(image, np.ones((factor, factor), np.uint16))
    radiograph(
        pixels,
        BodyPartExamined=body_part,
        ImageLaterality="R",
        PixelSpacing=[spacing_mm / factor] * 2,
    ).save_as(folder / "a.dcm", enforce_file_format=True)


def hip(folder: Path) -> None:
    from pipelines.phantoms.hip import hip_radiograph

    _radiograph(folder, "HIP", hip_radiograph(4, "sliding_screw", "R", spacing_mm=0.35).image, 0.35)


def knee(folder: Path) -> None:
    from pipelines.phantoms.knee import knee_radiograph

    _radiograph(folder, "KNEE", knee_radiograph(3, 4, "R", spacing_mm=0.35).image, 0.35)


def ct_of(folder: Path, slices: int, thickness: float) -> None:
    """An abdomen of 512 by 512 pixels; thin slices repeat the phantom's 3 mm ones."""
    from pipelines.phantoms.lumbar import lumbar_ct

    made = lumbar_ct(5, 100.0, spacing=(0.75, 0.75, 3.0), size=512, slices=104)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number in range(slices):
        source = min(int(number * thickness / 3.0), made.volume.shape[2] - 1)
        pixels = np.clip(made.volume[:, :, source].astype(np.int32) + 1024, 0, 4095)
        ct_slice(
            pixels.astype(np.uint16),
            number * thickness,
            study=study,
            series=series,
            number=number + 1,
            PixelSpacing=[0.75, 0.75],
            SliceThickness=thickness,
            BodyPartExamined="ABDOMEN",
            FrameOfReferenceUID=frame,
        ).save_as(folder / f"{number:04}.dcm", enforce_file_format=True)


def ct(folder: Path) -> None:
    ct_of(folder, 104, 3.0)


def ct300(folder: Path) -> None:
    ct_of(folder, 300, 1.0)


def thousand(folder: Path) -> None:
    ct_of(folder, 1000, 0.312)


STUDIES: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "hip": ("hip_fixation_device", "one hip, 10 MB", hip),
    "knee": ("knee_kl_ensemble", "one knee, 10 MB", knee),
    "ct": ("lumbar_bmd_ct", "104 slices of 512 x 512", ct),
    "ct300": ("lumbar_bmd_ct", "300 slices of 512 x 512", ct300),
    "thousand": ("lumbar_bmd_ct", "1,000 slices of 512 x 512", thousand),
}


def measure(name: str, folder: Path) -> dict[str, object]:
    """Run in a process of its own: the peak is that of this process."""
    import torch
    from pydicom import dcmread

    from dicom_node.inference.bundles import BUILT_IN, load_bundle
    from dicom_node.inference.local import JobInput, LocalExecutor
    from dicom_node.model.findings import NotEvaluated
    from dicom_node.model.instances import facts_of

    torch.set_num_threads(1)
    pipeline = STUDIES[name][0]
    executor = LocalExecutor({pipeline: load_bundle(BUILT_IN / pipeline)}, device="cpu", threads=1)
    files = tuple(sorted(folder.glob("*.dcm")))
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    facts = tuple(facts_of(h, str(h.file_meta.TransferSyntaxUID)) for h in headers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    found = executor.run(pipeline, JobInput(files, facts, None, datetime.now(UTC))).findings
    return {
        "seconds": time.monotonic() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "before_mb": before / 1024,
        "refused": [item.text for item in found.items if isinstance(item, NotEvaluated)],
        "statement": found.statement,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=STUDIES, nargs="*", default=list(STUDIES))
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        STUDIES[options.only[0]][2](options.make)
        return 0
    if options.measure:
        print(json.dumps(measure(options.only[0], options.measure)))
        return 0
    print("| study | pipeline | seconds | peak MB | before MB |")
    print("|---|---|---|---|---|")
    for name in options.only:
        pipeline, what, _ = STUDIES[name]
        with tempfile.TemporaryDirectory() as folder:
            # this process stays small: Linux hands its highest resident set on to its children
            for step in ("--make", "--measure"):
                done = subprocess.run(
                    [sys.executable, __file__, "--only", name, step, folder],
                    capture_output=True,
                    text=True,
                    check=False,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    return 1
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {what} | {pipeline} | {row['seconds']:.1f} | {row['peak_mb']:.0f} "
            f"| {row['before_mb']:.0f} |",
            flush=True,
        )
        for text in row["refused"]:
            print(f"not evaluated: {text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
