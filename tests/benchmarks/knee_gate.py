"""What the knee's finder and gate let through: real knees, and radiographs that are none.

    python -m tests.benchmarks.knee_gate --data DIR [--images 200]

DIR holds `knee_kl/`, `knee_osteoporosis/`, `out_of_scope/` and `dicom/`. Each image goes through
reader, finder and gate as in the node. Besides the refusals, the AUROC of how far an image is from
being let through (`strangeness`) tells each set from the test crops, which nothing was fitted on,
and from the full-frame knees, of which the finder saw 140 of 262 without boxes and on half of
which the gate's limit was fitted. Where one radiograph was sent in many transfer syntaxes, one
counts.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from PIL import Image
from sklearn.metrics import roc_auc_score

from dicom_node.inference.bundles import BUILT_IN, load_bundle
from dicom_node.inference.files import read_header
from dicom_node.inference.jobs import JobInput
from dicom_node.inference.parts import Parts, build_parts
from dicom_node.inference.saliency import crop
from dicom_node.inference.sources import sources_of
from dicom_node.model import own_codes
from dicom_node.model.instances import facts_of
from dicom_node.model.pipeline import InputKind
from dicom_node.model.targets import Rejection, Target
from pipelines.transforms.knee_gate import LEAST_CONTRAST, MOST_STEP, at_scale, metal_step
from pipelines.transforms.knee_search import LEAST, find_joints
from tests.benchmarks.knee_wrapping import PIPELINE

_PICTURES: Final = (".png", ".jpg", ".jpeg")
_DICOM: Final = {
    "hip": "hip_cr",
    "lower leg": "extremity_cr",
    "chest": "mixed/RG1_chest_cr_J2KI.dcm",
}
_REASONS: Final = {
    "no joint": own_codes.NOTHING_FOUND.value,
    "metal": own_codes.METAL.value,
    "no contrast": own_codes.UNREADABLE.value,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What the pipeline made of an image: the code of its refusal, and `strangeness`."""

    refused: str | None
    strangeness: float


def strangeness(score: float, step: float = 0.0, contrast: float = 1.0) -> float:
    """Above 1 where finder or gate refuse: the worst of their values in units of their limits.

    Args:
        score: Of the finder's best joint, 0 to 1.
        step: `metal_step` of the joint.
        contrast: Between the joint's 5th and 95th percentile.
    """
    return max((1 - score) / (1 - LEAST), step / MOST_STEP, LEAST_CONTRAST / max(contrast, 1e-6))


def judged(image: MetaTensor, attributes: dict[str, object], parts: Parts) -> Judged:
    """Find the joint in [1, H, W] and ask the gate, as the node does."""
    assert parts.locator is not None
    assert parts.gate is not None
    found = [item for item in parts.locator(image, attributes) if isinstance(item, Target)]
    if not found:
        finder = parts.network.get_submodule("finder")
        seen = find_joints(np.asarray(image)[0], finder, least=0)
        score = max((joint.score for joint in seen), default=0.0)
        return Judged(own_codes.NOTHING_FOUND.value, strangeness(score))
    cut = crop(image, found[0].box, found[0].mirror)
    data = parts.preprocessing({"image": cut, "attributes": attributes})
    why = parts.gate(data)
    joint = at_scale(torch.as_tensor(data["image"]))
    low, high = np.percentile(joint, (5, 95))
    value = strangeness(float(found[0].extras["score"]), metal_step(joint), high - low)
    return Judged(why.reason.value if isinstance(why, Rejection) else None, value)


def read_image(file: Path) -> tuple[MetaTensor, dict[str, object]]:
    """Read a picture as it is, or a DICOM radiograph as the node reads it; and its attributes."""
    if file.suffix == ".dcm":
        header = read_header(file)
        facts = facts_of(header, str(header.file_meta.TransferSyntaxUID))
        job = JobInput((file,), (facts,), None, datetime.now(UTC))
        (source,) = sources_of(job, InputKind.RADIOGRAPH)
        if source.values is None:
            raise SystemExit(f"{file.name} has no pixels that can be read")
        return _tensor(source.values, source.spacing), dict(source.attributes)
    with Image.open(file) as image:
        grey = np.asarray(image.convert("L"), np.float32) / 255
    return _tensor(grey, None), {}


def _tensor(values: npt.NDArray[np.float32], spacing: object) -> MetaTensor:
    meta = {"original_channel_dim": 0, "spacing": spacing}
    return MetaTensor(torch.from_numpy(values[None]), meta=meta)


def _listed(folder: Path, split: str | None = None) -> list[Path]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [folder / row["file"] for row in rows if split is None or row["split"] == split]


def image_sets(data: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each set's name and files; real knees come first."""
    yield "knees: test crops", _listed(data / "knee_kl", "test")
    yield "knees: full frames", _listed(data / "knee_osteoporosis")
    for name, folder in (("prosthesis", "knee_prosthesis"), ("upper limb", "upper_limb")):
        files = sorted((data / "out_of_scope" / folder).rglob("*"))
        yield name, [file for file in files if file.suffix.lower() in _PICTURES]
    for name, place in _DICOM.items():
        found = data / "dicom" / place
        yield name, [found] if found.is_file() else sorted(found.glob("*.dcm"))[:1]


def _row(name: str, of: Sequence[Judged], knees: Sequence[Sequence[Judged]]) -> str:
    reasons = Counter(item.refused for item in of)
    refused = len(of) - reasons[None]
    values = [item.strangeness for item in of]
    cells = [name, str(len(of)), *(str(reasons[code]) for code in _REASONS.values())]
    cells.append(f"{refused / len(of):.3f}")
    for each in knees:
        known = [item.strangeness for item in each]
        truth = [1] * len(values) + [0] * len(known)
        cells.append(f"{roc_auc_score(truth, values + known):.3f}")
    return f"| {' | '.join(cells + [''] * (2 - len(knees)))} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, help="of each set at most so many, evenly taken")
    options = parser.parse_args()
    parts = build_parts(load_bundle(BUILT_IN / PIPELINE), torch.device("cpu"))
    head = ["set", "images", *_REASONS, "not evaluated", "AUROC to crops", "to full frames"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    knees: list[list[Judged]] = []
    for name, files in image_sets(options.data):
        if options.images is not None and options.images < len(files):
            files = [files[n] for n in np.linspace(0, len(files) - 1, options.images).astype(int)]
        of = [judged(*read_image(file), parts) for file in files]
        is_knee = name.startswith("knees")
        print(_row(name, of, [] if is_knee else knees), flush=True)
        if is_knee:
            knees.append(of)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
