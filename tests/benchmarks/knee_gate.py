"""What the knee's finder and gate let through: real knees, and radiographs that are none.

    python -m tests.benchmarks.knee_gate --data DIR [--images 200]

DIR holds `knee_kl/`, `knee_osteoporosis/`, `out_of_scope/` and `dicom/`. Each image goes through
reader, finder and gate as in the node. Besides the refusals, the AUROC of how far an image is from
being let through (`strangeness`) tells each set from the test crops, which nothing was fitted on,
and from the full-frame knees, of which the finder saw 140 of 262 without boxes and on half of
which the gate's limits were fitted. Where one radiograph was sent in many transfer syntaxes, one
counts. What could not be had is simulated: drawn lateral views, on which nothing was fitted, and
test crops whose exposure was spoilt.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage
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
from pipelines.phantoms.knee_lateral import lateral_knee
from pipelines.transforms.knee_gate import KneeGate
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
    "unreadable": own_codes.UNREADABLE.value,
}
Read = tuple[MetaTensor, dict[str, object]]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the pipeline made of an image.

    Attributes:
        refused: The code of its refusal.
        strangeness: The worst of the finder's and the gate's values, in units of their limits:
            above 1 they refuse.
    """

    refused: str | None
    strangeness: float


def judged(image: MetaTensor, attributes: dict[str, object], parts: Parts) -> Judged:
    """Find the joint in [1, H, W] and ask the gate, as the node does."""
    assert parts.locator is not None
    assert parts.gate is not None
    found = [item for item in parts.locator(image, attributes) if isinstance(item, Target)]
    if not found:
        finder = parts.network.get_submodule("finder")
        seen = find_joints(np.asarray(image)[0], finder, least=0)
        score = max((joint.score for joint in seen), default=0.0)
        return Judged(own_codes.NOTHING_FOUND.value, _missed(score))
    cut = crop(image, found[0].box, found[0].mirror)
    data = parts.preprocessing({"image": cut, "attributes": attributes})
    why = parts.gate(data)
    assert isinstance(parts.gate, KneeGate)
    measured = parts.gate.measured(torch.as_tensor(data["image"]))
    value = max(_missed(float(found[0].extras["score"])), *measured.values())
    return Judged(why.reason.value if isinstance(why, Rejection) else None, value)


def _missed(score: float) -> float:
    """How far the finder's best joint is from being one, in units of its limit."""
    return (1 - score) / (1 - LEAST)


def read_image(file: Path) -> Read:
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


def _tensor(values: Array, spacing: object) -> MetaTensor:
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


def _lateral(seed: int) -> Read:
    return _tensor(lateral_knee(seed, spacing_mm=0.4).astype(np.float32) / 4095, (0.4, 0.4)), {}


def _spoilt(file: Path, how: Callable[[Array], Array]) -> Read:
    image, attributes = read_image(file)
    spoilt = np.clip(how(np.asarray(image)[0]), 0, 1).astype(np.float32)
    return _tensor(spoilt, None), attributes


def _blurred(crop: Array) -> Array:
    """Moved, or out of focus: a Gaussian of 8 of the crop's 224 pixels, about 3.4 mm."""
    found: Array = ndimage.gaussian_filter(crop, 8 * crop.shape[0] / 224)
    return found


def _noisy(crop: Array) -> Array:
    """Too little dose: 30 quanta a pixel where it is brightest."""
    drawn = np.random.default_rng(0).poisson((0.1 + 0.9 * crop) * 30) / 39
    return drawn.astype(np.float32)


def _burnt(crop: Array) -> Array:
    """Too much dose, or a window too narrow: the brighter 70 % of the crop are white."""
    found: Array = crop / max(float(np.percentile(crop, 30)), 0.01)
    return found


def _flat(crop: Array) -> Array:
    """A thirtieth of its contrast is left."""
    found: Array = 0.5 + (crop - 0.5) / 30
    return found


def simulated_sets(data: Path) -> Iterator[tuple[str, list[Callable[[], Read]]]]:
    """Yield each set's name and what makes its images."""
    yield "lateral views (drawn)", [partial(_lateral, 900 + seed) for seed in range(60)]
    some = _listed(data / "knee_kl", "test")[::10]
    for name, how in (
        ("test crops, blurred", _blurred),
        ("test crops, noise", _noisy),
        ("test crops, burnt out", _burnt),
        ("test crops, flat", _flat),
    ):
        yield name, [partial(_spoilt, file, how) for file in some]


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
    for name, made in simulated_sets(options.data):
        few = made[:: max(1, len(made) // (options.images or len(made)))]
        print(_row(name, [judged(*make(), parts) for make in few], knees), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
